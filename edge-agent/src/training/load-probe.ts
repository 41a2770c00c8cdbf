import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { engineNames, isBuiltIn, type EngineName } from './engines.ts';

/** ONNX Runtime's engines on this machine, and `web`, its build for browsers. */
export type LoadEngine = EngineName | 'web';

/** What came of a model on one engine. */
export interface LoadReport {
  engine: LoadEngine;
  /** By the models' names: undefined where it was loaded, or why it was not. */
  faults: Readonly<Record<string, string | undefined>>;
}

export interface ToLoadProbe {
  engines: readonly LoadEngine[];
  models: Readonly<Record<string, Uint8Array>>;
}

const PROBE_MS_MAX = 120_000;

/** Loads models on each engine that this build has, in a process of its own: one that is mean, or a driver that is, ends that one only. */
export function probeLoading(models: Readonly<Record<string, Uint8Array>>): Promise<LoadReport[]> {
  const engines: LoadEngine[] = [...engineNames.filter(isBuiltIn), 'web'];
  const isSource = import.meta.url.endsWith('.ts');
  const flags = ['--disable-warning=ExperimentalWarning', ...(isSource ? ['--conditions=@commonweight/source'] : [])];
  const file = new URL(isSource ? './load-probe-process.ts' : './load-probe-process.js', import.meta.url);
  const child = fork(fileURLToPath(file), [], { execArgv: flags, silent: true, serialization: 'advanced' });
  const reports: LoadReport[] = [];
  return new Promise((resolve) => {
    const end = (why: string): void => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      const faults = Object.fromEntries(Object.keys(models).map((name) => [name, why]));
      const missing = engines.filter((engine) => !reports.some((report) => report.engine === engine));
      resolve([...reports, ...missing.map((engine) => ({ engine, faults }))]);
    };
    const timer = setTimeout(() => end(`it was not done within ${PROBE_MS_MAX / 1000} s`), PROBE_MS_MAX);
    child.on('message', (report: LoadReport) => {
      reports.push(report);
      if (reports.length === engines.length) end('');
    });
    child.once('exit', (code, signal) => end(`the process that tried it ended (${signal ?? `exit code ${code}`})`));
    child.send({ engines, models } satisfies ToLoadProbe);
  });
}
