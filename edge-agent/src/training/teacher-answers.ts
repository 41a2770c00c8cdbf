import {
  buildTeacherGraph,
  readModel,
  stepOfTeacher,
  type LossName,
  type TeacherGraph,
  type TrainingGraph,
} from '@commonweight/core';
import { sizeOf, type Dataset } from '../data/dataset.ts';
import { Batches } from './batches.ts';
import { byEngine, type Engine, type Feeds, type Program } from './engine.ts';
import { Front } from './front.ts';
import type { Teacher } from './messages.ts';

/** Bytes of answers that are kept; those of larger sets are asked for again in each epoch. */
const ANSWERS_BYTES_MAX = 256 * 1024 * 1024;
/** Examples that are asked at once. */
const BATCH = 64;

interface Loaded {
  key: string;
  graph: TeacherGraph;
  /** What stands in front of it. */
  front: Front | undefined;
  program: Program;
}

/** The teacher that was asked last, loaded. */
export class LoadedTeacher {
  readonly #engine: Engine;
  #loaded: Loaded | undefined;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  async get({ key, onnx }: Teacher, loss: LossName): Promise<Loaded> {
    if (this.#loaded?.key === key) return this.#loaded;
    if (onnx === undefined) throw new Error('the teacher is not here any more: the next round sends it again');
    await this.release();
    const model = readModel(onnx);
    const graph = buildTeacherGraph(model, loss, BATCH);
    const program = await byEngine(() => this.#engine.compile(stepOfTeacher(graph)));
    this.#loaded = { key, graph, front: await Front.open(model, this.#engine), program };
    return this.#loaded;
  }

  async release(): Promise<void> {
    await this.#loaded?.front?.release();
    await this.#loaded?.program.release();
    this.#loaded = undefined;
  }
}

/**
 * A teacher's answers to the examples of one set. A teacher does not change, so each example is asked for once and its answer is kept, which
 * costs nothing after the first epoch; a teacher within the training graph would run in every step.
 */
export class TeacherAnswers {
  readonly key: string;
  readonly #teacher: Loaded;
  readonly #batches: Batches;
  /** Numbers of one answer. */
  readonly #size: number;
  readonly #kept: Float32Array | undefined;
  readonly #known: Uint8Array;

  /** `student` says how examples are labelled. */
  constructor(data: Dataset, teacher: Loaded, { target }: Pick<TrainingGraph, 'target'>, ignoreIndex?: number) {
    const { graph, key, front } = teacher;
    const own = { ...target, shape: [graph.batchSize, ...target.shape.slice(1)] };
    this.key = key;
    this.#teacher = teacher;
    this.#batches = new Batches(data, { ...graph, target: own }, { classes: undefined, ignoreIndex, front });
    this.#size = sizeOf(graph.shape) / graph.batchSize;
    const length = data.examples * this.#size;
    this.#kept = 4 * length <= ANSWERS_BYTES_MAX ? new Float32Array(length) : undefined;
    this.#known = new Uint8Array(data.examples);
  }

  /** The answers to a batch, as the training graph takes them; what a partial one lacks is filled with zeros. */
  async feedsOf({ name, shape }: NonNullable<TrainingGraph['teacher']>, indices: readonly number[]): Promise<Feeds> {
    const values = new Float32Array(sizeOf(shape));
    const missing = indices.filter((index) => this.#kept === undefined || this.#known[index] === 0);
    const asked = new Map<number, Float32Array>();
    for (let start = 0; start < missing.length; start += BATCH) {
      await this.#ask(missing.slice(start, start + BATCH), asked);
    }
    indices.forEach((index, row) => {
      const own = asked.get(index) ?? this.#kept?.subarray(index * this.#size, (index + 1) * this.#size);
      if (own !== undefined) values.set(own, row * this.#size);
    });
    return { [name]: { type: 'float32', data: values, dims: shape } };
  }

  async #ask(indices: readonly number[], asked: Map<number, Float32Array>): Promise<void> {
    const { graph, program } = this.#teacher;
    const feeds = await this.#batches.feedsOf(indices);
    const given = [...graph.data.map(({ name }) => name), graph.sampleWeights].map(
      (name) => [name, feeds[name]!] as const,
    );
    const outputs = await byEngine(() => program.measure(Object.fromEntries(given)));
    const answers = outputs[graph.output]!;
    indices.forEach((index, row) => {
      const answer = answers.slice(row * this.#size, (row + 1) * this.#size);
      if (!answer.every(Number.isFinite)) {
        throw new Error(
          'the teacher answered with a number that is not finite: choose another teacher, or mend the data',
        );
      }
      asked.set(index, answer);
      this.#kept?.set(answer, index * this.#size);
      this.#known[index] = 1;
    });
  }
}
