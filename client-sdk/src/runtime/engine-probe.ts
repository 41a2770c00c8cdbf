/** Whether a provider of the native ONNX Runtime works on this machine. */
import { fork } from 'node:child_process';
import type { EngineName } from './engine.ts';

export type NativeEngine = Exclude<EngineName, 'ort-web'>;

/** The providers of an engine, by ONNX Runtime's names. */
export function providersOf(engine: EngineName): string[] {
  const provider = engine.slice('ort-'.length);
  return provider === 'cpu' ? ['cpu'] : [provider, 'cpu'];
}

/** A first session on a GPU may compile for long. */
const PROBE_MS_MAX = 60_000;

const found = new Map<NativeEngine, Promise<string | undefined>>();

/** Why an engine does not work here, or undefined where it does. Found out once in a process. */
export function whyNot(engine: NativeEngine): Promise<string | undefined> {
  const known = found.get(engine) ?? probe(engine);
  found.set(engine, known);
  return known;
}

export type FromProbe = { why: string | undefined };

/** Runs a small model in a process of its own: a driver that crashes or hangs ends that one only. */
function probe(engine: NativeEngine): Promise<string | undefined> {
  const isSource = import.meta.url.endsWith('.ts');
  const flags = ['--disable-warning=ExperimentalWarning', ...(isSource ? ['--conditions=@commonweight/source'] : [])];
  const file = new URL(isSource ? './engine-probe-process.ts' : './engine-probe-process.js', import.meta.url);
  const child = fork(file, [engine], { execArgv: flags, silent: true });
  return new Promise((resolve) => {
    const end = (why: string | undefined): void => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      resolve(why);
    };
    const timer = setTimeout(() => end(`a small model was not run within ${PROBE_MS_MAX / 1000} s`), PROBE_MS_MAX);
    child.once('message', ({ why }: FromProbe) => end(why));
    child.once('error', ({ message }) => end(message));
    child.once('exit', (code, signal) => end(`the process that tried it ended (${signal ?? `exit code ${code}`})`));
  });
}
