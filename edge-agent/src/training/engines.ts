import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { listSupportedBackends, type InferenceSession } from 'onnxruntime-node';

/** What ONNX Runtime may train with, by its names of execution providers. */
export type EngineName = 'cpu' | 'webgpu' | 'cuda' | 'dml' | 'coreml';
export const engineNames: readonly EngineName[] = ['cpu', 'webgpu', 'cuda', 'dml', 'coreml'];

/** What trainings run on. */
export interface RunsOn {
  engine: EngineName;
  /** Of the CPU. */
  threads: number;
}

/** How sessions are made that train or measure: operators that an engine lacks run on the CPU. */
export const sessionOptions = ({ engine, threads }: RunsOn): InferenceSession.SessionOptions => ({
  executionProviders: engine === 'cpu' ? ['cpu'] : [engine, 'cpu'],
  intraOpNumThreads: threads,
  interOpNumThreads: 1,
});

/** What an engine did with a small model that it was given to train. */
export type EngineReport =
  { engine: EngineName; works: true; stepMs: number } | { engine: EngineName; works: false; why: string };

export type FromProbe = { stepMs: number } | { why: string };

/** A first session on a GPU may compile for long. */
const PROBE_MS_MAX = 60_000;

/** Whether this build of ONNX Runtime knows an engine, whatever the machine has. */
export const isBuiltIn = (engine: EngineName): boolean =>
  listSupportedBackends().some(({ name, bundled }) => name === engine && bundled);

/** Trains a small model with an engine, in a process of its own: a driver that crashes or hangs ends that one only. */
export function probeEngine({ engine, threads }: RunsOn): Promise<EngineReport> {
  const isSource = import.meta.url.endsWith('.ts');
  const flags = ['--disable-warning=ExperimentalWarning', ...(isSource ? ['--conditions=@commonweight/source'] : [])];
  const file = fileURLToPath(
    new URL(isSource ? './engine-probe-process.ts' : './engine-probe-process.js', import.meta.url),
  );
  const child = fork(file, [engine, String(threads)], { execArgv: flags, silent: true });
  return new Promise((resolve) => {
    const end = (report: EngineReport): void => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      resolve(report);
    };
    const timer = setTimeout(
      () => end({ engine, works: false, why: `a step was not done within ${PROBE_MS_MAX / 1000} s` }),
      PROBE_MS_MAX,
    );
    child.once('message', (message: FromProbe) =>
      end('why' in message ? { engine, works: false, why: message.why } : { engine, works: true, ...message }),
    );
    child.once('exit', (code, signal) =>
      end({ engine, works: false, why: `the process that tried it ended (${signal ?? `exit code ${code}`})` }),
    );
  });
}
