/** Whether a provider of the native ONNX Runtime works on this machine. */
import { fork } from 'node:child_process';
import type { EngineName } from './engine.ts';

export type NativeEngine = Exclude<EngineName, 'ort-web' | 'tfjs'>;

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
  const known = found.get(engine) ?? probeIn(import.meta.url, 'engine-probe-process', [engine]);
  found.set(engine, known);
  return known;
}

export type FromProbe = { why: string | undefined };

/**
 * Has a file beside `base` run a small model in a process of its own, which sends a `FromProbe`: a driver that crashes or hangs ends that one
 * only. Answers why it does not work.
 */
export function probeIn(base: string, name: string, args: readonly string[] = []): Promise<string | undefined> {
  const isSource = base.endsWith('.ts');
  const flags = ['--disable-warning=ExperimentalWarning', ...(isSource ? ['--conditions=@commonweight/source'] : [])];
  const file = new URL(`./${name}.${isSource ? 'ts' : 'js'}`, base);
  const child = fork(file, args, { execArgv: flags, silent: true });
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
