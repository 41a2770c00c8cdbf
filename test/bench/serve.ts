/**
 * The Open Inference endpoint against bare loops over the runtime in the same run, with one thread each: what runs requests one by one against
 * one row a run, and what runs batches against as many rows a run as its batches had. Of each model both losses are told: of predictions a second,
 * where the clients take a part of the machine that the loop has for itself, and of processor time, where they do not count.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startCoordinator } from '@commonweight/coordinator';
import { writeModel } from '@commonweight/core';
import { startServing, type Serving, type ServingEvent, type ServingOptions } from '@commonweight/edge-agent';
import type * as ort from 'onnxruntime-node';
import { openSession } from '../support/digit-models.ts';
import type { Load, LoadResult } from './serve-clients.ts';
import { feedsOf, requestOf, subjects, type Subject } from './serve-subjects.ts';

const TURNS = 5;
const TURN_MS = 700;
/** So many runs of the model at least, of 64 rows in the slowest case. */
const TURN_RUNS = 3;
const CLIENTS = [1, 8, 64];
/** As many as the endpoint has under way: loops that had one would leave a core idle. */
const RUNS_AT_ONCE = 2;
const BATCH_MAX = 64;
const MODES: Record<string, Partial<ServingOptions>> = {
  batched: { batchMax: BATCH_MAX },
  unbatched: { batchMax: 1 },
};
/** Of the first model alone. */
const INT8: Partial<ServingOptions> = {
  batchMax: BATCH_MAX,
  variant: { choice: 'int8' },
  variantData: 'mnist',
};

/** The model that figures without a name are of. */
const FIRST = 'mlp';

interface Options {
  /** Fewer turns. */
  quick?: boolean;
}

export async function run(
  { quick = false }: Options = {},
  names = Object.keys(subjects),
): Promise<Record<string, number | null>> {
  const folder = await mkdtemp(join(tmpdir(), 'commonweight-bench-'));
  const coordinator = await startCoordinator({ dataDir: folder, grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  const clients = fork(join(import.meta.dirname, 'serve-clients.ts'));
  try {
    const figures: Record<string, number> = {};
    for (const name of names) {
      const subject = subjects[name]!();
      await coordinator.service.importModel(name, writeModel(subject.model));
      const url = `grpc://127.0.0.1:${coordinator.grpcPort}`;
      Object.assign(figures, await figuresOf(name, subject, { url, clients, turns: quick ? 1 : TURNS }));
    }
    return {
      serving_overhead: figures[`serving_overhead_${FIRST}`] ?? null,
      rps_c64: figures[`rps_c64_batched_${FIRST}`] ?? null,
      ...figures,
    };
  } finally {
    clients.kill();
    await coordinator.close();
    await rm(folder, { recursive: true });
  }
}

interface Place {
  url: string;
  clients: ChildProcess;
  turns: number;
}

/** Turn by turn, so that a busy machine meets all alike; the figures are those of the median turn. */
async function figuresOf(
  name: string,
  subject: Subject,
  { url, clients, turns }: Place,
): Promise<Record<string, number>> {
  const bare = await openSession(subject.model);
  const servings: Serving[] = [];
  try {
    const turnMs = await turnMsOf(bare, subject);
    const measured: Record<string, Figures[]> = {};
    const measures: Record<string, () => Promise<Figures>> = { bare: () => bareLoop(bare, subject, 1, turnMs) };
    const modes = name === FIRST ? { ...MODES, int8: INT8 } : MODES;
    for (const [mode, options] of Object.entries(modes)) {
      const serving = await servingOf(url, name, options);
      servings.push(serving);
      for (const count of CLIENTS) {
        const load = { port: serving.httpPort, clients: count, ms: turnMs, request: requestOf(name, subject) };
        measures[`c${count}_${mode}`] = () => under(clients, load);
      }
    }
    // As many rows as the batches of this turn had on average.
    const rows = (): number => Math.round(measured['c64_batched']!.at(-1)!.rows);
    measures['bare_batched'] = () => bareLoop(bare, subject, rows(), turnMs);
    for (let turn = 0; turn < turns; turn++) {
      for (const [key, measure] of Object.entries(measures)) (measured[key] ??= []).push(await measure());
    }
    return told(
      name,
      (key, figure) => measured[key]!.map((each) => each[figure]).toSorted((a, b) => a - b)[turns >> 1]!,
      Object.keys(measures),
    );
  } finally {
    await Promise.all(servings.map((serving) => serving.close()));
    await bare.release();
  }
}

function told(
  name: string,
  median: (key: string, figure: keyof Figures) => number,
  keys: readonly string[],
): Record<string, number> {
  /** The share of what a bare loop does that is lost to HTTP, checks and threads where 64 clients ask. */
  const lost = (mode: string, loop: string): number => 1 - median(`c64_${mode}`, 'rps') / median(loop, 'rps');
  const [served, bare] = [median('c64_batched', 'cpuMs'), median('bare_batched', 'cpuMs')];
  return {
    [`serving_overhead_${name}`]: lost('batched', 'bare_batched'),
    [`serving_overhead_unbatched_${name}`]: lost('unbatched', 'bare'),
    [`serving_cpu_overhead_${name}`]: 1 - bare / served,
    [`serving_cpu_ms_per_request_${name}`]: served,
    [`bare_cpu_ms_per_row_${name}`]: bare,
    [`client_cpu_ms_per_request_${name}`]: median('c64_batched', 'clientCpuMs'),
    [`rows_a_run_c64_${name}`]: median('c64_batched', 'rows'),
    ...Object.fromEntries(
      keys.flatMap((key) => [
        [`rps_${key}_${name}`, median(key, 'rps')],
        [`p50_ms_${key}_${name}`, median(key, 'p50')],
        [`p99_ms_${key}_${name}`, median(key, 'p99')],
      ]),
    ),
  };
}

interface Figures {
  /** Rows a second: each request is of one. */
  rps: number;
  p50: number;
  p99: number;
  /** That a run of the model had on average. */
  rows: number;
  /** Processor time of this process, which serves or loops, for a row. */
  cpuMs: number;
  /** That of the clients' process. */
  clientCpuMs: number;
}

/** Long enough that the slowest model runs a few times for all of its clients. */
async function turnMsOf(session: ort.InferenceSession, subject: Subject): Promise<number> {
  const feeds = feedsOf(subject, BATCH_MAX);
  await session.run(feeds);
  const startMs = performance.now();
  await session.run(feeds);
  return Math.max(TURN_MS, TURN_RUNS * (performance.now() - startMs));
}

/** So many rows a run, with nothing between the caller and the runtime. */
async function bareLoop(
  session: ort.InferenceSession,
  subject: Subject,
  rows: number,
  turnMs: number,
): Promise<Figures> {
  const times: number[] = [];
  const feeds = feedsOf(subject, rows);
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  const loop = async (): Promise<void> => {
    while (performance.now() - startMs < turnMs) {
      const runMs = performance.now();
      await session.run(feeds);
      times.push(performance.now() - runMs);
    }
  };
  await Promise.all(Array.from({ length: RUNS_AT_ONCE }, loop));
  return {
    ...figuresOfTimes(times, performance.now() - startMs, rows),
    rows,
    cpuMs: cpuMsSince(cpu) / (times.length * rows),
    clientCpuMs: 0,
  };
}

async function under(clients: ChildProcess, load: Load): Promise<Figures> {
  const before = await runsOf(load.port);
  const cpu = process.cpuUsage();
  clients.send(load);
  const [{ times, ms, refused, cpuMs: clientCpuMs }] = (await once(clients, 'message')) as [LoadResult];
  const cpuMs = cpuMsSince(cpu);
  if (refused > 0) throw new Error(`${refused} requests were refused`);
  const after = await runsOf(load.port);
  return {
    ...figuresOfTimes(times, ms, 1),
    rows: (after.rows - before.rows) / (after.runs - before.runs),
    cpuMs: cpuMs / times.length,
    clientCpuMs: clientCpuMs / times.length,
  };
}

function cpuMsSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/** What an endpoint says of all its runs so far. */
async function runsOf(port: number): Promise<{ runs: number; rows: number }> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const figure = (name: string): number => {
    const [, value] = new RegExp(`^commonweight_serving_batch_rows_${name}\\{[^}]*\\} (\\d+)$`, 'm').exec(text) ?? [];
    return Number(value ?? 0);
  };
  return { runs: figure('count'), rows: figure('sum') };
}

/** Of the times of runs or requests, each of `rows` rows. */
function figuresOfTimes(times: readonly number[], ms: number, rows: number): Pick<Figures, 'rps' | 'p50' | 'p99'> {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.floor((sorted.length - 1) * share)]!;
  return { rps: ((times.length * rows) / ms) * 1000, p50: at(0.5), p99: at(0.99) };
}

/** Opens an endpoint and waits until it knows whether it may batch. */
async function servingOf(coordinator: string, model: string, options: Partial<ServingOptions>): Promise<Serving> {
  const found = Promise.withResolvers<void>();
  const onEvent = (event: ServingEvent): void => {
    if (event.type === 'batching' && !event.isBatchable)
      found.reject(new Error(`'${model}' is not batched: ${event.why}`));
    if (event.type === (options.batchMax === 1 ? 'version' : 'batching')) found.resolve();
  };
  const serving = await startServing({ coordinator, models: [model], http: '127.0.0.1:0', onEvent, ...options });
  await found.promise;
  return serving;
}
