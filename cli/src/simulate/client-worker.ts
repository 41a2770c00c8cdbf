/** A thread that plays clients, one after the other: the code of an agent between its link and its disk. */
import { readFile, writeFile } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';
import {
  layoutOf,
  localMethodOf,
  packedLength,
  parsePlan,
  readModel,
  weightsFromBytes,
  weightsToBytes,
} from '@commonweight/core';
import { inflated } from '@commonweight/coordinator';
import {
  classCount,
  deflated,
  evaluate,
  Evaluator,
  labelsOf,
  LoadedGraphs,
  LoadedTeacher,
  localRound,
  LocalTrainer,
  makeUpdate,
  openEngine,
  subset,
  type Dataset,
} from '@commonweight/edge-agent';
import { sha256 } from '@commonweight/client-sdk';
import { gridFromWire } from '@commonweight/proto';
import type { ClientJob, ClientResult, FromWorker, ToWorker, WorkerSetup } from './messages.ts';

/** Clients of different sizes need graphs of different batches. */
const GRAPHS_MAX = 16;

const port = parentPort;
if (port === null) throw new Error('this file is a worker');
const setup = workerData as WorkerSetup;
const engine = await openEngine('ort-cpu', { threads: 1 });
const graphs = new LoadedGraphs(engine, GRAPHS_MAX);
const evaluator = new Evaluator(engine);
const loadedTeacher = new LoadedTeacher(engine);
const teacher = setup.teacher === undefined ? {} : { teacher: { key: 'teacher', onnx: setup.teacher } };
const { length } = layoutOf(readModel(setup.graph));
const classes = classCount(setup.train) ?? 0;

async function play(job: ClientJob): Promise<ClientResult> {
  const { assignment } = job;
  const plan = parsePlan(JSON.parse(assignment.planJson));
  if (assignment.grid === undefined) throw new Error('an assignment has a grid');
  const { memory, base } = job;
  const trainer = new LocalTrainer(dataOf(job.client), graphs, loadedTeacher);
  const outcome = await localRound(
    { graph: setup.graph, base, memory, plan, seed: assignment.seed },
    (name, ownLength) => kept(job.kept[name], ownLength),
    (training) => trainer.train({ ...training, ...teacher }),
  );
  const values = packedLength(localMethodOf(plan).shape, length, gridFromWire(assignment.grid));
  const residual = await kept(job.kept['residual'], values);
  const { agentId, baseVersion } = job;
  const update = await makeUpdate({ sha256, deflate: deflated, agentId, assignment, baseVersion, outcome, residual });
  const files: Record<string, string> = {};
  for (const [name, vector] of [['residual', update.residual] as const, ...outcome.own]) {
    const file = `${job.keepAs}.${name}.f32`;
    await writeFile(file, weightsToBytes(vector));
    files[name] = file;
  }
  const payload = inflated(update.header, update.payload);
  if (payload === undefined) throw new Error('an update can be inflated again');
  return {
    payload,
    sentBytes: update.payload.length,
    updateId: update.header.updateId,
    examples: Number(update.header.weight),
    loss: outcome.result.loss,
    steps: outcome.result.steps,
    kept: files,
  };
}

async function kept(file: string | undefined, values: number): Promise<Float32Array | undefined> {
  if (file === undefined) return undefined;
  const vector = weightsFromBytes(await readFile(file));
  return vector.length === values ? vector : undefined;
}

function dataOf(client: number): Dataset {
  const data = subset(setup.train, [...(setup.parts[client] ?? [])]);
  return setup.flipped.includes(client) ? flipped(data) : data;
}

/** The last class becomes the first, and so on. */
function flipped(data: Dataset): Dataset {
  const labels = labelsOf(data)!;
  const values = labels.map((label) => classes - 1 - label);
  const columns = data.columns.map((column) => (column.name === data.label[0] ? { ...column, values } : column));
  return { ...data, columns };
}

async function answer(message: Exclude<ToWorker, { type: 'end' }>): Promise<void> {
  const tell = (reply: FromWorker): void => port?.postMessage(reply);
  try {
    if (message.type === 'client') return tell({ id: message.id, result: await play(message) });
    const data = subset(setup.test, [...message.examples]);
    const result = await evaluate(setup.graph, message.weights, data, { plan: setup.plan, evaluator });
    tell({ id: message.id, result });
  } catch (error) {
    tell({ id: message.id, failure: (error as Error).message });
  }
}

/** One after the other, so that the end comes after what was asked before. */
let before: Promise<void> = Promise.resolve();
port.on('message', (message: ToWorker) => {
  before = before.then(async () => {
    if (message.type !== 'end') return answer(message);
    await graphs.release();
    await evaluator.release();
    port.close();
  });
});
