/**
 * The Open Inference endpoint against bare loops over the runtime in the same run: what runs requests one by one against one row a run,
 * and what runs batches against as many rows a run as its batches had.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startCoordinator } from '@commonweight/coordinator';
import { mlp, writeModel } from '@commonweight/core';
import { startServing, type Serving, type ServingEvent, type ServingOptions } from '@commonweight/edge-agent';
import * as ort from 'onnxruntime-node';
import { openSession } from '../support/digit-models.ts';
import type { Load, LoadResult } from './serve-clients.ts';

const INPUTS = 784;
const TURNS = 5;
const TURN_MS = 700;
const CLIENTS = [1, 8, 64];
const MODES: Record<string, Partial<ServingOptions>> = {
  batched: { batchMax: 64 },
  unbatched: { batchMax: 1 },
  int8: { batchMax: 64, variant: { choice: 'int8' }, variantData: 'mnist' },
};

/** Turn by turn, so that a busy machine meets all alike; the figures are those of the median turn. */
export async function run(): Promise<Record<string, number | null>> {
  const folder = await mkdtemp(join(tmpdir(), 'commonweight-bench-'));
  const coordinator = await startCoordinator({ dataDir: folder, grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  const clients = fork(join(import.meta.dirname, 'serve-clients.ts'));
  const model = mlp({ inputs: INPUTS, hidden: [1024, 1024], outputs: 10, seed: 1 });
  const servings: Serving[] = [];
  try {
    await coordinator.service.importModel('digits', writeModel(model));
    const bare = await openSession(model);
    const turns: Record<string, Figures[]> = {};
    const subjects: Record<string, () => Promise<Figures>> = { bare: () => bareLoop(bare, 1) };
    for (const [mode, options] of Object.entries(MODES)) {
      const serving = await servingOf(`grpc://127.0.0.1:${coordinator.grpcPort}`, options);
      servings.push(serving);
      for (const count of CLIENTS) {
        const load = { port: serving.httpPort, clients: count, ms: TURN_MS, request: request() };
        subjects[`c${count}_${mode}`] = () => under(clients, load);
      }
    }
    // As many rows as the batches of this turn had on average.
    subjects['bare_batched'] = () => bareLoop(bare, Math.round(turns['c64_batched']!.at(-1)!.rows));
    for (let turn = 0; turn < TURNS; turn++) {
      for (const [name, measure] of Object.entries(subjects)) (turns[name] ??= []).push(await measure());
    }
    await bare.release();
    const median = (name: string, figure: keyof Figures): number =>
      turns[name]!.map((each) => each[figure]).toSorted((a, b) => a - b)[TURNS >> 1]!;
    const figures = Object.keys(subjects).flatMap((name) => [
      [`rps_${name}`, median(name, 'rps')],
      [`p50_ms_${name}`, median(name, 'p50')],
      [`p99_ms_${name}`, median(name, 'p99')],
    ]);
    const best = median('c64_batched', 'rps');
    // The share of a bare loop's rows that is lost to HTTP, checks and threads where 64 clients ask.
    const overhead = {
      unbatched: 1 - median('c64_unbatched', 'rps') / median('bare', 'rps'),
      batched: 1 - best / median('bare_batched', 'rps'),
    };
    return {
      serving_overhead: overhead.batched,
      serving_overhead_batched: overhead.batched,
      serving_overhead_unbatched: overhead.unbatched,
      rps_c64: best,
      rows_a_run_c64: median('c64_batched', 'rows'),
      ...Object.fromEntries(figures),
    };
  } finally {
    clients.kill();
    await Promise.all(servings.map((serving) => serving.close()));
    await coordinator.close();
    await rm(folder, { recursive: true });
  }
}

interface Figures {
  /** Rows a second: each request is of one. */
  rps: number;
  p50: number;
  p99: number;
  /** That a run of the model had on average. */
  rows: number;
}

/** So many rows at a time, with nothing between the caller and the runtime. */
async function bareLoop(session: ort.InferenceSession, rows: number): Promise<Figures> {
  const times: number[] = [];
  const data = new Float32Array(rows * INPUTS);
  for (let at = 0; at < rows; at++) data.set(row(), at * INPUTS);
  const startMs = performance.now();
  while (performance.now() - startMs < TURN_MS) {
    const runMs = performance.now();
    await session.run({ input: new ort.Tensor('float32', data, [rows, INPUTS]) });
    times.push(performance.now() - runMs);
  }
  return figuresOf(times, performance.now() - startMs, rows, rows);
}

async function under(clients: ChildProcess, load: Load): Promise<Figures> {
  const before = await runsOf(load.port);
  clients.send(load);
  const [{ times, ms, refused }] = (await once(clients, 'message')) as [LoadResult];
  if (refused > 0) throw new Error(`${refused} requests were refused`);
  const after = await runsOf(load.port);
  return figuresOf(times, ms, 1, (after.rows - before.rows) / (after.runs - before.runs));
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
function figuresOf(times: readonly number[], ms: number, rows: number, rowsARun: number): Figures {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.floor((sorted.length - 1) * share)]!;
  return { rps: ((times.length * rows) / ms) * 1000, p50: at(0.5), p99: at(0.99), rows: rowsARun };
}

const row = (): Float32Array => Float32Array.from({ length: INPUTS }, (_, index) => (index % 7) / 7);

/** One row, as bytes behind JSON. */
function request(): string {
  const data = Buffer.from(row().buffer);
  const json = JSON.stringify({
    inputs: [{ name: 'input', datatype: 'FP32', shape: [1, INPUTS], parameters: { binary_data_size: data.length } }],
    parameters: { binary_data_output: true },
  });
  const head = [
    'POST /v2/models/digits/infer HTTP/1.1',
    'Host: 127.0.0.1',
    `Inference-Header-Content-Length: ${json.length}`,
    `Content-Length: ${json.length + data.length}`,
    '\r\n',
  ].join('\r\n');
  return Buffer.concat([Buffer.from(head), Buffer.from(json), data]).toString('base64');
}

/** Opens an endpoint and waits until it knows whether it may batch. */
async function servingOf(coordinator: string, options: Partial<ServingOptions>): Promise<Serving> {
  const found = Promise.withResolvers<void>();
  const onEvent = ({ type }: ServingEvent): void => {
    if (type === (options.batchMax === 1 ? 'version' : 'batching')) found.resolve();
  };
  const serving = await startServing({ coordinator, models: ['digits'], http: '127.0.0.1:0', onEvent, ...options });
  await found.promise;
  return serving;
}
