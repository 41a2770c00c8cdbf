/**
 * Explains answers of one model. Gradients take a graph of their own, with the weights in it, and a worker of their own, so that predictions
 * do not wait for them; both are let go of when nobody has asked for a while.
 */
import {
  attributionRuns,
  AttributionSum,
  buildAttributionGraph,
  ConfigError,
  OnnxError,
  pathOf,
  type Attribution,
  type AttributionGraph,
  type ExplainedInput,
  type ModelProto,
} from '@commonweight/core';
import { ExplainError, InputError, ModelError } from '../errors.ts';
import type { Contract } from '../model/contract.ts';
import { feedsFor, type Inputs } from '../model/inputs.ts';
import type { Engine, Session } from '../runtime/engine.ts';
import { sizeOf, type Tensor, type TypedArray, type TypedTensor } from '../runtime/tensor.ts';
import type { ExplainedRow, ExplainOptions, Explanation } from './explanation.ts';

/** Examples of one call. */
const ROWS_MAX = 64;
/** Calls that wait for their turn. */
const WAITING_MAX = 16;
/** How long graph and worker are kept for the next call. */
const IDLE_MS = 60_000;

/** A version whose answers are explained. */
export interface ExplainSubject {
  name: string;
  version: number;
  /** Equal for equal graph and weights. */
  content: string;
  contract: Contract;
  model(): Promise<ModelProto>;
}

/** An example, and what the version said of it. */
export interface Answered {
  inputs: Inputs;
  outputs: Record<string, Tensor>;
}

interface Opened {
  key: string;
  graph: AttributionGraph;
  session: Session;
}

export class Explainer {
  readonly #openEngine: () => Engine;
  #engine: Engine | undefined;
  #opened: Opened | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #idle: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  constructor(openEngine: () => Engine) {
    this.#openEngine = openEngine;
  }

  /** Throws InputError for wrong options, and ExplainError where the model has no gradient, naming the node. */
  async explain(subject: ExplainSubject, answered: Answered, options: ExplainOptions): Promise<Explanation> {
    if (this.#waiting >= WAITING_MAX) {
      throw new ModelError(`${WAITING_MAX} explanations of '${subject.name}' wait already: ask again later`);
    }
    this.#waiting += 1;
    const mine = this.#turn.then(() => this.#explain(subject, answered, options));
    this.#turn = mine.catch(() => {});
    try {
      return await mine;
    } finally {
      this.#waiting -= 1;
      if (this.#waiting === 0) this.#restUntilAsked();
    }
  }

  /** Waits for what runs. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#turn;
    await this.#rest();
  }

  async #explain(subject: ExplainSubject, answered: Answered, options: ExplainOptions): Promise<Explanation> {
    if (this.#isClosed) throw new ModelError(`'${subject.name}' is closed`);
    clearTimeout(this.#idle);
    try {
      return await this.#explained(subject, answered, options);
    } catch (error) {
      if (error instanceof ConfigError) throw new InputError(error.message, { cause: error });
      if (!(error instanceof OnnxError)) throw error;
      throw new ExplainError(`version ${subject.version} of '${subject.name}': ${error.message}`, { cause: error });
    }
  }

  async #explained(subject: ExplainSubject, answered: Answered, options: ExplainOptions): Promise<Explanation> {
    const { method = 'integrated-gradients' } = options;
    const path = pathOf(options);
    const given = feedsFor(subject.contract.inputs, answered.inputs);
    const rows = examplesOf(subject.contract, given);
    const baseline = baselineOf(subject.contract, rows[0]!, options.baseline ?? 0);
    const { graph, session } = await this.#open(subject, rows[0]!, options.output, path.length + 2);
    const answers = answered.outputs[graph.output.name]!;
    const found: { row: ExplainedRow; attribution: Attribution }[] = [];
    for (const [at, row] of rows.entries()) {
      const { values } = graph.output;
      const own = Array.from(answers.data.slice(at * values, (at + 1) * values), Number);
      const index = options.index ?? placeOfLargest(own);
      if (!Number.isInteger(index) || index < 0 || index >= values) {
        throw new InputError(`output '${graph.output.name}' has the values 0 to ${values - 1}, and no ${index}`);
      }
      const sum = new AttributionSum(graph, index);
      for (const { positions, shares } of attributionRuns(graph, path)) {
        const feeds = feedsOf(graph, row, baseline, index, { positions, shares });
        const outputs = await session.run(feeds);
        sum.add(Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, data as Float32Array])));
      }
      const attribution = sum.result();
      const { value, baselineValue, gap } = attribution;
      found.push({ row: { index, value, baselineValue, gap }, attribution });
    }
    return {
      version: subject.version,
      method,
      steps: path.length,
      output: graph.output.name,
      rows: found.map(({ row }) => row),
      inputs: tensorsOf(given),
      attributions: joined(
        graph.inputs,
        rows.length,
        found.map(({ attribution }) => attribution),
      ),
    };
  }

  /** The graph of this version, output and shape, loaded. The one before makes way. */
  async #open(subject: ExplainSubject, row: Feed, output: string | undefined, points: number): Promise<Opened> {
    const shapes = Object.fromEntries(Object.entries(row).map(([name, { dims }]) => [name, dims]));
    const key = JSON.stringify([subject.content, output, points, shapes]);
    if (this.#opened?.key === key) return this.#opened;
    const graph = buildAttributionGraph(await subject.model(), {
      points,
      shapes,
      ...(output === undefined ? {} : { output }),
    });
    const before = this.#opened;
    this.#opened = undefined;
    await before?.session.release();
    this.#engine ??= this.#openEngine();
    const session = await this.#engine.load(graph.model);
    // A worker that ends takes the graph with it; the next call loads it again.
    const run: Session['run'] = async (feeds) => {
      try {
        return await session.run(feeds);
      } catch (error) {
        this.#opened = undefined;
        throw error;
      }
    };
    this.#opened = { key, graph, session: { run, release: () => session.release() } };
    return this.#opened;
  }

  #restUntilAsked(): void {
    clearTimeout(this.#idle);
    if (this.#isClosed) return;
    this.#idle = setTimeout(() => {
      this.#turn = this.#turn.then(() => (this.#waiting === 0 ? this.#rest() : undefined)).catch(() => {});
    }, IDLE_MS);
    // In Node a process that has nothing else to do may end.
    (this.#idle as { unref?: () => void }).unref?.();
  }

  async #rest(): Promise<void> {
    clearTimeout(this.#idle);
    const engine = this.#engine;
    [this.#engine, this.#opened] = [undefined, undefined];
    await engine?.close();
  }
}

type Feed = Readonly<Record<string, TypedTensor>>;

/** One example after the other; the whole input where the model leaves no batch open. */
function examplesOf({ inputs: specs }: Contract, feeds: Feed): Feed[] {
  const isBatched = specs.every(({ dims }) => dims.length > 0 && dims[0]! < 0);
  const counts = new Set(isBatched ? Object.values(feeds).map(({ dims }) => dims[0]!) : [1]);
  const [count = 1, ...others] = counts;
  if (others.length > 0)
    throw new InputError(`the inputs have ${[...counts].join(' and ')} examples: give as many of each`);
  if (count > ROWS_MAX)
    throw new InputError(`${count} examples were given, and ${ROWS_MAX} are explained at once at most`);
  return Array.from({ length: count }, (_, row) =>
    Object.fromEntries(
      Object.entries(feeds).map(([name, { type, data, dims }]): [string, TypedTensor] => {
        const size = data.length / count;
        const own = data.slice(row * size, (row + 1) * size);
        return [name, { type, data: own, dims: isBatched ? [1, ...dims.slice(1)] : dims }];
      }),
    ),
  );
}

function baselineOf({ inputs: specs }: Contract, example: Feed, given: number | Inputs): Feed {
  if (typeof given !== 'number') {
    const row = feedsFor(specs, { ...tensorsOf(example), ...given });
    const unfit = Object.entries(row).find(([name, { data }]) => data.length !== example[name]!.data.length);
    if (unfit === undefined) return row;
    throw new InputError(
      `the baseline of '${unfit[0]}' has ${unfit[1].data.length} values: give one example of ${example[unfit[0]]!.data.length}`,
    );
  }
  if (!Number.isFinite(given)) throw new InputError(`the baseline ${given} is no number to compare with`);
  return Object.fromEntries(
    Object.entries(example).map(([name, { type, data, dims }]): [string, TypedTensor] => {
      if (!ArrayBuffer.isView(data))
        throw new InputError(`'${name}' holds texts, which nothing can be said of by gradients`);
      const isFloat = data instanceof Float32Array || data instanceof Float64Array;
      if (!isFloat && !Number.isInteger(given))
        throw new InputError(`'${name}' holds whole numbers, and ${given} is none`);
      return [name, { type, data: filled(data, given), dims }];
    }),
  );
}

const tensorsOf = (feeds: Feed): Record<string, Tensor> =>
  Object.fromEntries(Object.entries(feeds).map(([name, { data, dims }]) => [name, { data, dims }]));

function filled(like: TypedArray, value: number): TypedArray {
  const copy = like.slice();
  if (copy instanceof BigInt64Array || copy instanceof BigUint64Array) return copy.fill(BigInt(value));
  return (copy as Float32Array).fill(value);
}

function feedsOf(
  graph: AttributionGraph,
  row: Feed,
  baseline: Feed,
  index: number,
  { positions, shares }: { positions: Float32Array; shares: Float32Array },
): Record<string, TypedTensor> {
  const floats = (data: Float32Array, dims: readonly number[]): TypedTensor => ({ type: 'float32', data, dims });
  const selector = new Float32Array(graph.output.values);
  selector[index] = 1;
  const copy = ({ type, data, dims }: TypedTensor): TypedTensor => ({ type, data: data.slice(), dims });
  return {
    [graph.positions]: floats(positions, [positions.length]),
    [graph.shares]: floats(shares, [shares.length]),
    [graph.selector.name]: floats(selector, graph.selector.shape),
    ...Object.fromEntries(
      graph.inputs.flatMap(({ name, value, baseline: from }) => [
        [value, copy(row[name]!)],
        ...(from === undefined ? [] : [[from, copy(baseline[name]!)]]),
      ]),
    ),
  } as Record<string, TypedTensor>;
}

/** Attributions of all examples in the shapes of the inputs. */
function joined(inputs: readonly ExplainedInput[], count: number, all: readonly Attribution[]): Record<string, Tensor> {
  return Object.fromEntries(
    inputs.flatMap(({ name, shape, attribution }): [string, Tensor][] => {
      if (attribution === undefined) return [];
      const size = sizeOf(shape);
      const data = new Float32Array(count * size);
      all.forEach(({ attributions }, row) => data.set(attributions.get(name)!, row * size));
      return [[name, { data, dims: count === 1 ? shape : [count, ...shape.slice(1)] }]];
    }),
  );
}

function placeOfLargest(values: readonly number[]): number {
  return values.reduce((best, value, index) => (value > values[best]! ? index : best), 0);
}
