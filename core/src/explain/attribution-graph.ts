import { differentiate } from '../autodiff/backward.ts';
import { ancestors } from '../autodiff/reachability.ts';
import { reshapeTo } from '../autodiff/rule.ts';
import { writeNode } from '../autodiff/rewrite/write-node.ts';
import { contractOf } from '../onnx/contract.ts';
import type { TensorSpec } from '../onnx/contract.ts';
import { NotTrainableError, OnnxError } from '../onnx/errors.ts';
import { graphOf, writeModel } from '../onnx/file.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { GraphBuilder } from '../onnx/graph-builder.ts';
import { toInference } from '../onnx/training-mode.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';
import { finishGraph } from '../training/forward-pass.ts';
import { readable } from '../training/readable.ts';
import { embeddingsOf } from './embeddings.ts';
import type { Embedding } from './embeddings.ts';

/** A model's input in an attribution graph. */
export interface ExplainedInput {
  name: string;
  /** Element type in ONNX's words. */
  dtype: string;
  /** Of one example. */
  shape: Shape;
  /** Input of the graph that takes the example's values. */
  value: string;
  /** Input that takes the baseline's; none where the input is held as it is. */
  baseline?: string;
  /** Output with the input's share in the answer, in the input's shape. */
  attribution?: string;
  /** Where gradients begin: the input's own numbers, or the vectors that a table has for its tokens. */
  at?: 'input' | 'embedding';
}

/** One ONNX graph that takes gradients at several points between a baseline and an example, and the names by which to drive it. */
export interface AttributionGraph {
  model: Uint8Array;
  /** Points of one run. */
  points: number;
  inputs: readonly ExplainedInput[];
  /** Input [points]: how far from the baseline to the example each point lies. */
  positions: string;
  /** Input [points]: how much the gradient at each point counts. */
  shares: string;
  /** Input of the output's shape for one example: how much each of its values counts. */
  selector: { name: string; shape: Shape };
  /** The explained output at each point, [points, values of one example]. */
  output: { name: string; graphName: string; values: number };
}

export interface AttributionOptions {
  /** Which output is explained; the first one of float numbers where nobody says. */
  output?: string;
  /** Points of one run; fewer are taken where their values would need too much memory. */
  points: number;
  /** Shape of one example by input, where the model leaves more than the batch open. */
  shapes?: Readonly<Record<string, Shape>>;
}

/** Bytes that the values of one run may take, were none of them used twice. */
export const VALUE_BYTES_MAX: number = 256 * 1024 * 1024;

/**
 * Writes forward pass, gradient of an output and the integral over it as one graph of standard operators. Takes a whole model, weights
 * and all. Throws OnnxError where the output has no gradient, naming the node.
 */
export function buildAttributionGraph(model: ModelProto, options: AttributionOptions): AttributionGraph {
  const whole = readable({ ...model, graph: toInference(graphOf(model)) });
  const output = outputOf(model, options.output);
  const { graph, valueBytes } = new AttributionWriter(whole, options).write(output);
  if (graph.points === 1 || valueBytes <= VALUE_BYTES_MAX) return graph;
  const points = Math.max(1, Math.floor((graph.points * VALUE_BYTES_MAX) / valueBytes));
  return new AttributionWriter(whole, { ...options, points }).write(output).graph;
}

function outputOf(model: ModelProto, wanted: string | undefined): string {
  const floats = contractOf(model).outputs.filter(({ dtype }) => dtype === 'float');
  const names = floats.map(({ name }) => `'${name}'`).join(', ');
  if (wanted === undefined && floats[0] !== undefined) return floats[0].name;
  if (wanted !== undefined && floats.some(({ name }) => name === wanted)) return wanted;
  throw new OnnxError(
    wanted === undefined
      ? 'the model has no output of float numbers, so there is nothing that could have a gradient'
      : `the model has no output '${wanted}' of float numbers; ${names === '' ? 'it has none at all' : `it has ${names}`}`,
  );
}

/** An input as it is written so far. */
interface Declared extends ExplainedInput {
  /** The example minus the baseline, where the input itself is explained. */
  difference?: string;
}

class AttributionWriter {
  readonly #graph = new GraphBuilder('explain/');
  readonly #nodes: readonly NodeProto[];
  readonly #model: ModelProto;
  readonly #specs: readonly TensorSpec[];
  readonly #options: AttributionOptions;
  readonly #points: number;
  readonly #isBatched: boolean;

  constructor(model: ModelProto, options: AttributionOptions) {
    this.#model = model;
    this.#options = options;
    this.#nodes = graphOf(model).node;
    this.#specs = contractOf(model).inputs;
    this.#isBatched = this.#specs.every(({ dims }) => dims.length > 0 && dims[0]! < 0);
    this.#points = this.#isBatched ? options.points : 1;
  }

  write(output: string): { graph: AttributionGraph; valueBytes: number } {
    const graph = this.#graph;
    const needed = ancestors(this.#nodes, [output]);
    for (const tensor of graphOf(this.#model).initializer) if (needed.has(tensor.name)) graph.initializer(tensor);
    const positions = graph.input('explain/positions', [this.#points]);
    const shares = graph.input('explain/shares', [this.#points]);
    const declared = this.#specs.map((spec) => this.#declare(spec, positions));
    const embeddings = this.#embeddings(needed);
    const differences = new Map<string, { input: string; difference: string }>();
    for (const { name, difference } of declared)
      if (difference !== undefined) differences.set(name, { input: name, difference });
    const start = graph.nodes.length;
    for (const node of this.#nodes) {
      if (!node.output.some((name) => needed.has(name))) continue;
      const embedding = embeddings.find((one) => one.node === node);
      if (embedding === undefined) writeNode(graph, node);
      else differences.set(node.output[0]!, this.#writeEmbedding(embedding, positions));
    }
    const forward = graph.nodes.slice(start);
    const gradients = this.#gradients(output, forward, shares, [...differences.keys()]);
    const attributed = new Map<string, string>();
    for (const [point, { input, difference }] of differences) {
      const gradient = gradients.found.get(point);
      if (gradient === undefined) continue;
      const own = this.#attribution(input, graph.emit('Mul', [gradient, difference]));
      const before = attributed.get(input);
      attributed.set(input, before === undefined ? own : graph.emit('Add', [before, own]));
    }
    if (attributed.size === 0) throw this.#unreachable(output, embeddings);
    const inputs = declared.map(({ difference, baseline, ...rest }): ExplainedInput => {
      const attribution = attributed.get(rest.name);
      if (difference === undefined && attribution === undefined) return rest;
      const at = difference === undefined ? 'embedding' : 'input';
      const kept = { ...rest, baseline: baseline ?? baselineOf(rest.name), at } as const;
      return attribution === undefined ? kept : { ...kept, attribution };
    });
    const values = sizeOf(graph.shapeOf(output)) / this.#points;
    const answers = graph.emit('Reshape', [output, graph.integers([this.#points, values])]);
    const step = finishGraph(graph, [answers, ...attributed.values()]);
    const names = [...graph.inputs.map(({ name }) => name), ...graphOf(step).node.flatMap((node) => node.output)];
    const valueBytes = names.reduce((sum, name) => sum + (name === '' ? 0 : 4 * sizeOf(graph.shapeOf(name))), 0);
    return {
      graph: {
        model: writeModel(step),
        points: this.#points,
        inputs,
        positions,
        shares,
        selector: { name: gradients.selector, shape: graph.shapeOf(gradients.selector) },
        output: { name: output, graphName: answers, values },
      },
      valueBytes,
    };
  }

  /** Puts the point between baseline and example in the place of a float input; others are the example's own at every point. */
  #declare({ name, dtype, dims }: TensorSpec, positions: string): Declared {
    const graph = this.#graph;
    const elemType = elemTypeOf(dtype);
    if (elemType === undefined) throw new OnnxError(`input '${name}' holds ${dtype}, which cannot be explained`);
    const given = this.#options.shapes?.[name];
    const shape = dims.map((size, axis) => (size >= 0 ? size : axis === 0 ? 1 : (given?.[axis] ?? -1)));
    if (shape.includes(-1)) {
      throw new OnnxError(`input '${name}' leaves more than the batch open: [${dims.join()}]; say the example's shape`);
    }
    const value = graph.input(`explain/value/${name}`, shape, elemType);
    const full = this.#isBatched ? [this.#points, ...shape.slice(1)] : shape;
    if (dtype !== 'float') {
      graph.emit('Expand', [value, graph.integers(full)], {}, name);
      return { name, dtype, shape, value };
    }
    const baseline = graph.input(baselineOf(name), shape);
    const difference = graph.emit('Sub', [value, baseline]);
    const position = reshapeTo(graph, positions, [this.#points, ...shape.slice(1).map(() => 1)]);
    graph.emit('Add', [baseline, graph.emit('Mul', [difference, position])], {}, name);
    return { name, dtype, shape, value, baseline, difference };
  }

  #embeddings(needed: ReadonlySet<string>): Embedding[] {
    const integers = this.#specs.filter(({ dtype }) => dtype === 'int64' || dtype === 'int32');
    const found = embeddingsOf(
      this.#nodes,
      graphOf(this.#model).initializer,
      integers.map(({ name }) => name),
    ).filter(({ node }) => needed.has(node.output[0]!));
    return found.filter(({ node }, index) => found.findIndex((one) => one.node === node) === index);
  }

  /** Looks up the vectors of the example and of the baseline, and puts the point between them in the place of the example's. */
  #writeEmbedding({ node, input, chain }: Embedding, positions: string): { input: string; difference: string } {
    const graph = this.#graph;
    const [table, places] = node.input as [string, string];
    const output = node.output[0]!;
    const baseline = baselineOf(input);
    const twin = (name: string): string => `${baselineOf(name)}/twin`;
    const moved = new Set([input, ...chain.flatMap((one) => one.output)]);
    if (!graph.has(baseline)) {
      const { shape, elemType } = graph.typeOf(`explain/value/${input}`);
      graph.input(baseline, shape, elemType);
      graph.emit('Expand', [baseline, graph.integers(graph.shapeOf(input))], {}, twin(input));
    }
    for (const one of chain) {
      if (graph.has(twin(one.output[0]!))) continue;
      const rename = (name: string): string => (moved.has(name) ? twin(name) : name);
      writeNode(graph, { ...one, name: '', input: one.input.map(rename), output: one.output.map(twin) });
    }
    const actual = graph.emit('Gather', [table, places], { axis: 0 });
    const before = graph.emit('Gather', [table, twin(places)], { axis: 0 });
    const difference = graph.emit('Sub', [actual, before]);
    const shape = graph.shapeOf(actual);
    if (shape[0] !== this.#points && this.#points > 1) {
      throw new OnnxError(
        `node '${node.name}' looks tokens up in another order than by example; export the model with a batch of 1`,
      );
    }
    const position = reshapeTo(
      graph,
      positions,
      shape.map((_, axis) => (axis === 0 ? this.#points : 1)),
    );
    graph.emit('Add', [before, graph.emit('Mul', [difference, position])], {}, output);
    return { input, difference };
  }

  #gradients(
    output: string,
    forward: readonly NodeProto[],
    shares: string,
    points: readonly string[],
  ): { found: ReadonlyMap<string, string>; selector: string } {
    const graph = this.#graph;
    const shape = graph.shapeOf(output);
    if (this.#isBatched && shape[0] !== this.#points) {
      throw new OnnxError(`output '${output}' is [${shape.join()}]: its first dimension is not the batch's`);
    }
    const selector = graph.input('explain/selector', this.#isBatched ? [1, ...shape.slice(1)] : shape);
    const column = reshapeTo(
      graph,
      shares,
      shape.map((_, axis) => (axis === 0 ? this.#points : 1)),
    );
    const seed = graph.emit('Mul', [selector, column]);
    try {
      return { found: differentiate(graph, forward, new Map([[output, seed]]), points), selector };
    } catch (cause) {
      if (!(cause instanceof NotTrainableError)) throw cause;
      throw new OnnxError(`output '${output}' cannot be explained by gradients: ${cause.message}`, { cause });
    }
  }

  /** Adds up over the points, and over the numbers of a token's vector. */
  #attribution(input: string, products: string): string {
    const graph = this.#graph;
    const { shape, elemType } = graph.typeOf(`explain/value/${input}`);
    const isToken = elemType !== TensorProto_DataType.FLOAT;
    const rank = graph.shapeOf(products).length;
    const summed = isToken
      ? graph.emit('ReduceSum', [products, graph.integers([rank - 1])], { keepdims: 0 })
      : products;
    if (!this.#isBatched) return reshapeTo(graph, summed, shape);
    if (sizeOf(graph.shapeOf(summed)) !== this.#points * sizeOf(shape)) {
      throw new OnnxError(`input '${input}' is looked up in another shape than it has; it cannot be explained`);
    }
    const perPoint = reshapeTo(graph, summed, [this.#points, ...shape.slice(1)]);
    return graph.emit('ReduceSum', [perPoint, graph.integers([0])], { keepdims: 1 });
  }

  #unreachable(output: string, embeddings: readonly Embedding[]): OnnxError {
    const inputs = this.#specs.map(({ name, dtype }) => `'${name}' of ${dtype}`).join(', ');
    const tokens = embeddings.length === 0 ? ', nor a table (Gather) that their tokens are looked up in' : '';
    return new OnnxError(
      `output '${output}' cannot be explained: it is no differentiable function of the inputs ${inputs}${tokens}`,
    );
  }
}

const baselineOf = (input: string): string => `explain/baseline/${input}`;

const elemTypeOf = (dtype: string): number | undefined =>
  Object.entries(TensorProto_DataType).find(([name]) => name.toLowerCase() === dtype)?.[1];
