import type { EngineName } from '../engine.ts';
import type { CpuBudget } from '../messages.ts';
import { forkBeside } from './fork-source.ts';

/** What an engine did with small models that it was given to train. */
export type EngineReport = { engine: EngineName } & (
  | {
      works: true;
      /** What it runs on, where that is not plain from its name. */
      runsOn?: string;
      /** Of a step of the MLP. */
      mlpMs: number;
      /** Of a step of the CNN; undefined where that would take too long. */
      cnnMs?: number;
      /** Operators that ran on the CPU. */
      elsewhere: readonly string[];
    }
  | { works: false; why: string }
);

export type FromProbe =
  { mlpMs: number; cnnMs?: number; elsewhere: readonly string[]; runsOn?: string } | { why: string };

/** A first session on a GPU may compile for long. */
const PROBE_MS_MAX = 120_000;

/** Trains small models with an engine, in a process of its own: a driver that crashes or hangs ends that one only. */
export function probeEngine(engine: EngineName, { threads }: CpuBudget): Promise<EngineReport> {
  const child = forkBeside(import.meta.url, 'probe-process', [engine, String(threads)], { silent: true });
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
