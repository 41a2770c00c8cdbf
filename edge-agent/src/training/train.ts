import {
  buildTrainingGraph,
  contractOf,
  dropoutMask,
  layoutOf,
  rateFactor,
  readModel,
  seeded,
  stepOfTraining,
  type RandomStream,
  type TrainingGraph,
  type TrainingPlan,
  type WeightLayout,
} from '@commonweight/core';
import { equalBytes } from '@commonweight/proto';
import { sizeOf, type Dataset } from '../data/dataset.ts';
import { Batches } from './batches.ts';
import { byEngine, EngineError, type Engine, type Feeds, type Program } from './engine.ts';
import { Front } from './front.ts';
import { HeldOut } from './held-out.ts';
import type { Teacher, TrainingJob, TrainingResult } from './messages.ts';
import { evaluationOn, type EvaluationJob, type MadeReport } from './reports.ts';
import { LoadedTeacher, TeacherAnswers } from './teacher-answers.ts';

/** A training graph that is loaded. */
interface Loaded {
  bytes: Uint8Array;
  key: string;
  graph: TrainingGraph;
  layout: WeightLayout;
  /** Of the model's output; undefined where its size is not fixed, or the plan tells no classes apart. */
  classes: number | undefined;
  /** What stands in front of the trained part. */
  front: Front | undefined;
  program: Program;
}

/** A task's training, and that of a model of the agent's own. */
const GRAPHS_MAX = 2;

/** Training graphs that are loaded: the last few, since loading one takes longer than a step. */
export class LoadedGraphs {
  readonly engine: Engine;
  readonly #max: number;
  /** The last one used comes last. */
  #loaded: Loaded[] = [];
  #last: Promise<unknown> = Promise.resolve();

  constructor(engine: Engine, max: number = GRAPHS_MAX) {
    this.engine = engine;
    this.#max = max;
  }

  /** One training at a time: a loaded graph keeps the weights of the one that uses it. */
  alone<T>(deed: () => Promise<T>): Promise<T> {
    const done = this.#last.then(deed);
    this.#last = done.catch(() => {});
    return done;
  }

  async get(bytes: Uint8Array, plan: TrainingPlan, batchSize: number): Promise<Loaded> {
    const key = `${batchSize} ${JSON.stringify(plan)}`;
    const known = this.#loaded.find((one) => one.key === key && equalBytes(one.bytes, bytes));
    const loaded = known ?? { bytes, key, ...(await this.#load(bytes, plan, batchSize)) };
    this.#loaded = [...this.#loaded.filter((one) => one !== known), loaded];
    while (this.#loaded.length > this.#max) await releaseOne(this.#loaded.shift()!);
    return loaded;
  }

  async release(): Promise<void> {
    for (const one of this.#loaded.splice(0)) await releaseOne(one);
  }

  async #load(bytes: Uint8Array, plan: TrainingPlan, batchSize: number): Promise<Omit<Loaded, 'bytes' | 'key'>> {
    const model = readModel(bytes);
    if (plan.quantizationAware !== undefined && this.engine.forms.gradients === 'given') {
      throw new EngineError(
        `${this.engine.name} takes gradients by itself, and a rounded number has none: ort-cpu trains for few bits`,
      );
    }
    const graph = buildTrainingGraph(model, plan, batchSize, this.engine.forms);
    const program = await byEngine(() => this.engine.compile(stepOfTraining(graph)));
    const classes = contractOf(model).outputs[0]?.dims.at(-1);
    return {
      graph,
      layout: layoutOf(model),
      classes: plan.loss === 'cross-entropy' && classes !== undefined && classes > 0 ? classes : undefined,
      front: await Front.open(model, this.engine),
      program,
    };
  }
}

async function releaseOne({ front, program }: Loaded): Promise<void> {
  await front?.release();
  await program.release();
}

/** Hears how far a training is. */
export interface Watched {
  /** After steps that were taken. What it throws ends the training. */
  onStep?(): void | Promise<void>;
}

/** Trains on one set, step by step, on an engine. */
export class LocalTrainer {
  readonly #data: Dataset;
  readonly #graphs: LoadedGraphs;
  readonly #heldOut: HeldOut;
  readonly #teacher: LoadedTeacher;
  #answers: TeacherAnswers | undefined;

  constructor(data: Dataset, engine: Engine | LoadedGraphs, teacher?: LoadedTeacher) {
    this.#data = data;
    this.#graphs = engine instanceof LoadedGraphs ? engine : new LoadedGraphs(engine);
    this.#heldOut = new HeldOut(data, this.#graphs.engine);
    this.#teacher = teacher ?? new LoadedTeacher(this.#graphs.engine);
  }

  /** Lets go of what is its own, after what is under way; graphs that it was given stay loaded. */
  release(): Promise<void> {
    return this.#graphs.alone(() => this.#heldOut.release());
  }

  train(job: TrainingJob, watched: Watched = {}): Promise<TrainingResult> {
    return this.#graphs.alone(() => this.#train(job, watched));
  }

  /** Measures weights, and trains nothing. */
  evaluate(job: EvaluationJob, watched: Watched = {}): Promise<MadeReport> {
    return this.#graphs.alone(() => evaluationOn(this.#data, this.#heldOut, job, watched));
  }

  async #train({ graph, weights, plan, seed, ...more }: TrainingJob, { onStep }: Watched): Promise<TrainingResult> {
    const startMs = performance.now();
    const { engine } = this.#graphs;
    const { train: indices, held } = this.#heldOut.split(plan.evaluation);
    const batchSize = Math.min(plan.batchSize, indices.length);
    const loaded = await this.#graphs.get(graph, plan, batchSize);
    const { program } = loaded;
    const batches = new Batches(this.#data, loaded.graph, {
      ...loaded,
      ignoreIndex: plan.lossOptions?.ignoreIndex,
    });
    const examples = new Examples(loaded.graph, batches, await this.#taught(more.teacher, plan, loaded.graph));
    const metrics = held.length === 0 ? {} : await this.#heldOut.measure({ graph, weights, plan }, held);
    const random = seeded(seed);
    await byEngine(() => program.write(firstValues(loaded, weights, more)));
    await onStep?.();
    const baseLoss = more.needsBaseLoss === true ? await this.#lossOf(loaded, plan, examples, indices) : undefined;
    let loss = 0;
    let steps = 0;
    const total = plan.epochs * Math.ceil(indices.length / batchSize);
    for (let epoch = 0; epoch < plan.epochs; epoch++) {
      let lossSum = 0;
      const order = random.fork(`epoch ${epoch}`).shuffle([...indices]);
      for (let start = 0; start < order.length;) {
        const taken: number[][] = [];
        const feeds: Feeds[] = [];
        while (taken.length < program.stepsAtOnce && start < order.length) {
          const batch = order.slice(start, start + batchSize);
          feeds.push({
            ...rateFeed(loaded.graph, plan, steps, total),
            ...maskFeeds(loaded.graph, random.fork(`dropout ${steps}`)),
            ...(await examples.feedsOf(batch)),
          });
          taken.push(batch);
          start += batchSize;
          steps++;
        }
        const results = await byEngine(() => program.run(feeds));
        taken.forEach((batch, i) => (lossSum += (results[i]?.[loaded.graph.loss]?.[0] ?? NaN) * batch.length));
        await onStep?.();
      }
      loss = lossSum / order.length;
      if (!Number.isFinite(loss)) {
        throw new Error(
          `the loss became ${loss} in epoch ${epoch + 1}: lower the learning rate, or look for bad values in the data`,
        );
      }
    }
    const trained = new Float32Array(weights.length);
    const values = await byEngine(() => program.read());
    loaded.graph.parameters.forEach(({ input }, i) => {
      trained.set(values[input]!, loaded.layout.parameters[i]?.offset ?? 0);
    });
    const ms = performance.now() - startMs;
    return {
      weights: trained,
      loss,
      examples: indices.length,
      steps,
      ms,
      metrics,
      engine: engine.name,
      elsewhere: program.elsewhere,
      ...(baseLoss === undefined ? {} : { baseLoss }),
    };
  }

  /** What the teacher says of the examples; undefined where the plan has none. */
  async #taught(
    teacher: Teacher | undefined,
    { distillation, loss, lossOptions }: TrainingPlan,
    student: TrainingGraph,
  ): Promise<TeacherAnswers | undefined> {
    if (distillation === undefined) return undefined;
    if (teacher === undefined) throw new Error('the plan learns from a teacher, and none was given');
    const loaded = await this.#teacher.get(teacher, loss);
    if (this.#answers?.key !== loaded.key)
      this.#answers = new TeacherAnswers(this.#data, loaded, student, lossOptions?.ignoreIndex);
    return this.#answers;
  }

  /** The mean loss of the weights over all examples: no step is taken. */
  async #lossOf(
    { graph, program }: Loaded,
    plan: TrainingPlan,
    examples: Examples,
    indices: readonly number[],
  ): Promise<number> {
    let sum = 0;
    for (let start = 0; start < indices.length; start += graph.batchSize) {
      const batch = indices.slice(start, start + graph.batchSize);
      const feeds = { ...rateFeed(graph, plan, 0, 1), ...keepAll(graph), ...(await examples.feedsOf(batch)) };
      const outputs = await byEngine(() => program.measure(feeds));
      sum += (outputs[graph.loss]?.[0] ?? NaN) * batch.length;
    }
    return sum / indices.length;
  }
}

/** What a step hears of its examples: themselves, their labels, and what a teacher says of them. */
class Examples {
  readonly #graph: TrainingGraph;
  readonly #batches: Batches;
  readonly #teacher: TeacherAnswers | undefined;

  constructor(graph: TrainingGraph, batches: Batches, teacher: TeacherAnswers | undefined) {
    this.#graph = graph;
    this.#batches = batches;
    this.#teacher = teacher;
  }

  async feedsOf(indices: readonly number[]): Promise<Feeds> {
    const feeds = await this.#batches.feedsOf(indices);
    const { teacher } = this.#graph;
    if (teacher === undefined || this.#teacher === undefined) return feeds;
    return { ...feeds, ...(await this.#teacher.feedsOf(teacher, indices)) };
  }
}

function firstValues(
  { graph, layout }: Loaded,
  weights: Float32Array,
  { anchor = weights, correction = new Float32Array(weights.length) }: Pick<TrainingJob, 'anchor' | 'correction'>,
): Record<string, Float32Array> {
  const values: Record<string, Float32Array> = {};
  const places = new Map(layout.parameters.map((parameter) => [parameter.name, parameter]));
  const part = (whole: Float32Array, name: string): Float32Array => {
    const { offset = 0, length = 0 } = places.get(name) ?? {};
    return whole.subarray(offset, offset + length);
  };
  for (const { name, input } of graph.parameters) values[input] = part(weights, name);
  for (const { input, shape } of graph.state) values[input] = new Float32Array(sizeOf(shape));
  for (const { input, parameter } of graph.anchors) values[input] = part(anchor, parameter);
  for (const { input, parameter } of graph.corrections) values[input] = part(correction, parameter);
  return values;
}

/** The share of the learning rate, where the plan has a schedule. */
function rateFeed({ rate }: TrainingGraph, { schedule }: TrainingPlan, step: number, steps: number): Feeds {
  if (rate === undefined || schedule === undefined) return {};
  return { [rate]: { type: 'float32', data: Float32Array.of(rateFactor(schedule, step, steps)), dims: [1] } };
}

/** What each Dropout drops in this step; the same seed drops the same. */
function maskFeeds({ masks }: TrainingGraph, random: RandomStream): Feeds {
  return Object.fromEntries(
    masks.map((mask) => [
      mask.input,
      { type: 'float32', data: dropoutMask(mask, random.fork(mask.input)), dims: mask.shape },
    ]),
  );
}

/** Nothing is dropped where a loss is only measured. */
function keepAll({ masks }: TrainingGraph): Feeds {
  return Object.fromEntries(
    masks.map(({ input, shape }) => [
      input,
      { type: 'float32', data: new Float32Array(sizeOf(shape)).fill(1), dims: shape },
    ]),
  );
}
