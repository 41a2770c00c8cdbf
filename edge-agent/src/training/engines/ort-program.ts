import { copying, inStep, unrolled, type KeptValue, type StepGraph } from '@commonweight/core';
import type { InferenceSession, Tensor, TensorConstructor } from 'onnxruntime-node';
import type { Feeds, Program, Values } from '../engine.ts';
import { ortTensors } from './ort-tensors.ts';

/** ONNX Runtime on one platform with one provider. */
export interface OrtRuntime {
  Tensor: TensorConstructor;
  createSession(model: Uint8Array, options?: SessionNeeds): Promise<InferenceSession>;
  /**
   * Where kept values are between steps: in two sets of buffers that take turns, in whatever buffers the runtime gives out, or on the
   * device that computes.
   */
  keeps: 'in-buffers' | 'as-given' | 'on-device';
  /** Whether a tensor of the device tells its numbers; else a graph has to copy them. */
  tellsNumbers?: boolean;
  /** After the first run of a watched session: the operators that its provider lacks. */
  elsewhere?(session: InferenceSession): Promise<readonly string[]>;
}

export interface SessionNeeds {
  /** Whether it runs on the CPU, whatever computes elsewhere. */
  onCpu?: boolean;
  /** Outputs that stay where they were computed. */
  onDevice?: readonly string[];
  /** Whether `elsewhere` will be asked. */
  isWatched?: boolean;
}

type Tensors = Record<string, Tensor>;
type Results = InferenceSession.OnnxValueMapType;

/** Steps in one crossing; more of them bring little. */
const STEPS_AT_ONCE = 4;
/** Of larger steps the crossing is too small a share. */
const UNROLLED_BYTES_MAX = 8 * 1024 * 1024;

/** A graph in ONNX Runtime. */
export class OrtProgram implements Program {
  readonly stepsAtOnce: number;
  elsewhere: readonly string[] = [];
  readonly #runtime: OrtRuntime;
  readonly #graph: StepGraph;
  readonly #session: InferenceSession;
  /** Several steps as one; made when so many are taken for the first time. */
  #several: { graph: StepGraph; session: InferenceSession } | undefined;
  #copying: InferenceSession | undefined;
  /** By the names of inputs. */
  #kept: Tensors = {};
  /** What the next run writes into. */
  #spare: Tensors = {};
  #hasRun = false;

  private constructor(runtime: OrtRuntime, graph: StepGraph, session: InferenceSession) {
    this.#runtime = runtime;
    this.#graph = graph;
    this.#session = session;
    const isSmall = graph.valueBytes > 0 && graph.valueBytes <= UNROLLED_BYTES_MAX;
    this.stepsAtOnce = isSmall && runtime.keeps !== 'on-device' ? STEPS_AT_ONCE : 1;
  }

  static async compile(runtime: OrtRuntime, graph: StepGraph): Promise<OrtProgram> {
    const onDevice = runtime.keeps === 'on-device' ? changing(graph).map(({ output }) => output) : [];
    const isWatched = runtime.elsewhere !== undefined;
    return new OrtProgram(runtime, graph, await runtime.createSession(graph.model, { onDevice, isWatched }));
  }

  write(values: Values): void {
    const { Tensor: Make, keeps } = this.#runtime;
    for (const { input, output, shape } of this.#graph.kept) {
      const given = values[input];
      if (given === undefined) continue;
      giveBack(this.#kept[input]);
      this.#kept[input] = new Make('float32', given.slice(), shape);
      if (keeps === 'in-buffers' && output !== undefined)
        this.#spare[input] ??= new Make('float32', new Float32Array(given.length), shape);
    }
  }

  async run(steps: readonly Feeds[]): Promise<Values[]> {
    const results: Values[] = [];
    for (let at = 0; at < steps.length; at += this.stepsAtOnce) {
      const taken = steps.slice(at, at + this.stepsAtOnce);
      if (taken.length > 1 && taken.length === this.stepsAtOnce) results.push(...(await this.#runTogether(taken)));
      else for (const step of taken) results.push(await this.#runOne(step));
    }
    return results;
  }

  async measure(step: Feeds): Promise<Values> {
    const { outputs } = this.#graph;
    return numbersOf(await this.#session.run({ ...this.#kept, ...this.#tensors(step) }, outputs), outputs);
  }

  async read(): Promise<Values> {
    const kept = await this.#downloaded();
    return Object.fromEntries(
      changing(this.#graph).map(({ input }) => [input, (kept[input]!.data as Float32Array).slice()]),
    );
  }

  async release(): Promise<void> {
    for (const tensor of Object.values(this.#kept)) giveBack(tensor);
    [this.#kept, this.#spare] = [{}, {}];
    await this.#session.release();
    await this.#several?.session.release();
    await this.#copying?.release();
  }

  async #runOne(step: Feeds): Promise<Values> {
    const results = await this.#take(this.#session, this.#graph, this.#tensors(step));
    if (!this.#hasRun && this.#runtime.elsewhere !== undefined) {
      this.elsewhere = await this.#runtime.elsewhere(this.#session);
    }
    this.#hasRun = true;
    return numbersOf(results, this.#graph.outputs);
  }

  async #runTogether(steps: readonly Feeds[]): Promise<Values[]> {
    if (this.#several === undefined) {
      const graph = unrolled(this.#graph, steps.length);
      this.#several = { graph, session: await this.#runtime.createSession(graph.model) };
    }
    const { graph, session } = this.#several;
    const feeds: Tensors = {};
    for (const [index, step] of steps.entries()) {
      for (const [name, tensor] of Object.entries(this.#tensors(step))) feeds[inStep(index, name)] = tensor;
    }
    const results = await this.#take(session, graph, feeds);
    return steps.map((_, index) => numbersOf(results, this.#graph.outputs, (name) => inStep(index, name)));
  }

  /** Runs and keeps what is to be kept. */
  async #take(session: InferenceSession, graph: StepGraph, feeds: Tensors): Promise<Results> {
    const values = changing(graph);
    const given = { ...this.#kept, ...feeds };
    if (this.#runtime.keeps !== 'in-buffers') {
      const results = await session.run(given);
      for (const { input, output } of values) {
        giveBack(this.#kept[input]);
        this.#kept[input] = results[output] as Tensor;
      }
      return results;
    }
    const fetches: Record<string, Tensor | null> = {};
    for (const name of graph.outputs) fetches[name] = null;
    for (const { input, output } of values) fetches[output] = this.#spare[input]!;
    const results = await session.run(given, fetches);
    for (const { input } of values) {
      [this.#kept[input], this.#spare[input]] = [this.#spare[input]!, this.#kept[input]!];
    }
    return results;
  }

  /** Kept values as tensors that tell their numbers. */
  async #downloaded(): Promise<Tensors> {
    const kept = { ...this.#kept };
    const far = changing(this.#graph).filter(({ input }) => kept[input]!.location !== 'cpu');
    if (far.length === 0) return kept;
    const { Tensor: Make, tellsNumbers = false } = this.#runtime;
    if (tellsNumbers) {
      for (const { input, shape } of far)
        kept[input] = new Make('float32', (await kept[input]!.getData()) as Float32Array, shape);
      return kept;
    }
    const copy = copying(far);
    this.#copying ??= await this.#runtime.createSession(copy.model);
    const results = await this.#copying.run(Object.fromEntries(far.map(({ input }) => [input, kept[input]!])));
    for (const { input, output } of copy.kept) kept[input] = results[output!] as Tensor;
    return kept;
  }

  #tensors(feeds: Feeds): Tensors {
    return ortTensors(this.#runtime.Tensor, feeds);
  }
}

type Changing = KeptValue & { output: string };

const changing = ({ kept }: StepGraph): Changing[] =>
  kept.filter((value): value is Changing => value.output !== undefined);

function numbersOf(results: Results, names: readonly string[], named = (name: string): string => name): Values {
  return Object.fromEntries(names.map((name) => [name, (results[named(name)] as Tensor).data as Float32Array]));
}

/** What is on a device is not given back by itself. */
function giveBack(tensor: Tensor | undefined): void {
  if (tensor !== undefined && tensor.location !== 'cpu') tensor.dispose();
}
