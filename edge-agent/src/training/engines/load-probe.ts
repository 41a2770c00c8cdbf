import type { TrainingPlan } from '@commonweight/core';
import type { EngineName } from '../engine.ts';
import { forkBeside } from './fork-source.ts';
import { engineNames } from './names.ts';

/** A model that is to be tried, and what is to be done with it. */
export interface LoadJob {
  /** Whole, as it is served. */
  served: Uint8Array;
  /** Without its weights, as it is trained, and by what; undefined where it cannot be. */
  trained?: { graph: Uint8Array; plan: TrainingPlan };
}

/** What came of a model on one engine: undefined where it was loaded, or why it was not. */
export interface LoadReport {
  engine: EngineName;
  /** Of the model itself, where apps run models by this engine. */
  serving?: { fault: string | undefined };
  training?: { fault: string | undefined };
}

/** Engines that the client SDK runs models by: in Node and in a browser. */
export const servingEngines: readonly EngineName[] = ['ort-cpu', 'ort-web'];

export interface ToLoadProbe {
  engines: readonly EngineName[];
  job: LoadJob;
}

/** `missing`: this machine does not have the engine's package. */
export type FromLoadProbe = { missing: EngineName } | { report: LoadReport };

const PROBE_MS_MAX = 120_000;

/** Loads a model on each engine that is here, in a process of its own: a model that is mean, or a driver that is, ends that one only. */
export async function probeLoading(job: LoadJob): Promise<LoadReport[]> {
  const reports: LoadReport[] = [];
  let engines = engineNames.filter((name) => job.trained !== undefined || servingEngines.includes(name));
  while (engines.length > 0) {
    const { reports: some, rest } = await probeSome(engines, job);
    reports.push(...some);
    engines = rest;
  }
  return reports;
}

/** Until the process is through, or dies of an engine: then another one has to take the rest. */
function probeSome(
  engines: readonly EngineName[],
  job: LoadJob,
): Promise<{ reports: LoadReport[]; rest: EngineName[] }> {
  const child = forkBeside(import.meta.url, 'load-probe-process', [], { silent: true, serialization: 'advanced' });
  const reports: LoadReport[] = [];
  let rest = [...engines];
  return new Promise((resolve) => {
    const end = (why: string): void => {
      clearTimeout(timer);
      child.removeAllListeners();
      child.kill('SIGKILL');
      const [engine] = rest;
      if (engine !== undefined) reports.push(reportOf(engine, job, why));
      resolve({ reports, rest: rest.slice(1) });
    };
    const late = (): void => end(`it was not done within ${PROBE_MS_MAX / 1000} s`);
    let timer = setTimeout(late, PROBE_MS_MAX);
    const heard = (message: FromLoadProbe): void => {
      clearTimeout(timer);
      timer = setTimeout(late, PROBE_MS_MAX);
      if ('report' in message) reports.push(message.report);
      const done = 'report' in message ? message.report.engine : message.missing;
      rest = rest.filter((engine) => engine !== done);
      if (rest.length === 0) end('');
    };
    child.on('message', heard);
    child.once('exit', (code, signal) => end(`the process that tried it ended (${signal ?? `exit code ${code}`})`));
    child.send({ engines, job } satisfies ToLoadProbe);
  });
}

/** The same fault for whatever was to be tried. */
function reportOf(engine: EngineName, { trained }: LoadJob, fault: string): LoadReport {
  return {
    engine,
    ...(servingEngines.includes(engine) ? { serving: { fault } } : {}),
    ...(trained === undefined ? {} : { training: { fault } }),
  };
}
