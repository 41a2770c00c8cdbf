import { ancestors, openGraph, type NodeProto, type StepGraph } from '@commonweight/core';
import type { Feeds, Program, Values } from '../../engine.ts';
import type { Tensor, TfLibrary } from './operator.ts';
import { tensorOf } from './tensor-of.ts';
import { TfjsGraph, type Scope } from './tfjs-graph.ts';

/** A step in TensorFlow.js: its nodes computed one by one, and gradients taken by its own differentiation. */
export class TfjsProgram implements Program {
  readonly stepsAtOnce = 1;
  readonly elsewhere: readonly string[] = [];
  readonly #tf: TfLibrary;
  readonly #graph: TfjsGraph;
  readonly #step: StepGraph;
  readonly #kept: Scope = new Map();
  /** From the inputs to the loss. */
  readonly #forward: readonly NodeProto[];
  /** From the gradients to what is kept. */
  readonly #rest: readonly NodeProto[];
  /** What the rest reads of the way to the loss. */
  readonly #crossing: readonly string[];

  constructor(tf: TfLibrary, step: StepGraph) {
    this.#tf = tf;
    this.#step = step;
    this.#graph = new TfjsGraph(tf, openGraph(step.model));
    const { nodes } = this.#graph;
    const toLoss = ancestors(nodes, [step.differentiated?.loss ?? '']);
    this.#forward = nodes.filter(({ output }) => output.some((name) => toLoss.has(name)));
    this.#rest = nodes.filter((node) => !this.#forward.includes(node));
    const made = new Set(this.#forward.flatMap(({ output }) => output));
    this.#crossing = [...new Set(this.#rest.flatMap(({ input }) => input))].filter((name) => made.has(name));
  }

  write(values: Values): void {
    for (const { input, shape } of this.#step.kept) {
      const given = values[input];
      if (given !== undefined) this.#keep(input, this.#tf.tensor(given.slice(), [...shape]));
    }
  }

  run(steps: readonly Feeds[]): Promise<Values[]> {
    return Promise.resolve(steps.map((feeds) => this.#taken(feeds, true)));
  }

  measure(feeds: Feeds): Promise<Values> {
    return Promise.resolve(this.#taken(feeds, false));
  }

  read(): Promise<Values> {
    const changing = this.#step.kept.filter(({ output }) => output !== undefined);
    return Promise.resolve(
      Object.fromEntries(changing.map(({ input }) => [input, Float32Array.from(this.#kept.get(input)!.dataSync())])),
    );
  }

  release(): Promise<void> {
    for (const tensor of this.#kept.values()) tensor.dispose();
    this.#kept.clear();
    this.#graph.release();
    return Promise.resolve();
  }

  #taken(feeds: Feeds, keeps: boolean): Values {
    const { differentiated, kept, outputs } = this.#step;
    return this.#tf.tidy(() => {
      const scope: Scope = new Map([...this.#graph.constants, ...this.#kept]);
      for (const [name, tensor] of Object.entries(feeds)) scope.set(name, tensorOf(this.#tf, name, tensor));
      if (differentiated === undefined || !keeps) this.#graph.compute(this.#forward, scope);
      else this.#differentiate(scope, differentiated);
      if (differentiated === undefined || keeps) this.#graph.compute(this.#rest, scope);
      const results = outputs.map((name) => [name, Float32Array.from(scope.get(name)!.dataSync())] as const);
      for (const { input, output } of kept) {
        if (keeps && output !== undefined) this.#keep(input, this.#tf.clone(scope.get(output)!));
      }
      return Object.fromEntries(results);
    });
  }

  /** Computes the way to the loss and puts the gradients, which are inputs of the rest, beside what it made. */
  #differentiate(scope: Scope, { loss, gradients }: NonNullable<StepGraph['differentiated']>): void {
    const crossing: Scope = new Map();
    const way = (...parameters: Tensor[]): Tensor => {
      const inner = new Map(scope);
      for (const [index, { parameter }] of gradients.entries()) inner.set(parameter, parameters[index]!);
      this.#graph.compute(this.#forward, inner);
      for (const name of this.#crossing) crossing.set(name, this.#tf.keep(inner.get(name)!));
      return this.#tf.reshape(inner.get(loss)!, []);
    };
    const at = gradients.map(({ parameter }) => scope.get(parameter)!);
    const { value, grads } = this.#tf.valueAndGrads(way as (...x: Tensor[]) => Tensor)(at);
    scope.set(loss, value);
    for (const [index, { input }] of gradients.entries()) scope.set(input, grads[index]!);
    for (const [name, tensor] of crossing) {
      // A copy of the same numbers, which this step lets go of.
      scope.set(name, this.#tf.clone(tensor));
      tensor.dispose();
    }
  }

  #keep(name: string, tensor: Tensor): void {
    this.#kept.get(name)?.dispose();
    this.#kept.set(name, this.#tf.keep(tensor));
  }
}
