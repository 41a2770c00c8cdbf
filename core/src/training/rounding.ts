import { layersOf } from '../adapters/layers.ts';
import { graphOf } from '../onnx/file.ts';
import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { makeNode } from '../onnx/nodes.ts';
import { calibrationGraph } from '../quantize/calibration.ts';
import { QuantizeError } from '../quantize/errors.ts';
import { keptRanges } from '../quantize/kept-ranges.ts';

/** Bits that training rounds to; what is not named stays as it is. */
export interface QuantizationAware {
  /** Of the weights of convolutions and matrix products, with a scale per channel. */
  weights?: number;
  /** Of what goes into them and lies between them, with a scale per value. */
  activations?: number;
}

export const ROUNDING_BITS_MIN = 2;
export const ROUNDING_BITS_MAX = 8;

/** How fast a kept range follows those of the batches. */
const MOMENTUM = 0.05;
/** How far a kept range may move in one training, in its own unit: what an update may hold by default is 8. */
const MOVE_MAX = 7;
/** A scale below this would lose digits. */
const SCALE_MIN = 1e-20;

/**
 * Rounds in the forward pass what the int8 form will round, so that training finds weights that bear it (Jacob et al. 2018, "Quantization and
 * Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"). The backward pass walks an Identity in the place of each
 * rounding: the straight-through estimator (Bengio et al. 2013). Numbers out of range are clipped, and get no gradient.
 */
export class Rounding {
  /** Kept ranges as they are after the step. */
  readonly statistics: Map<string, string> = new Map();
  /** Where a kept range may not go far from: the round's base. */
  readonly anchors: { input: string; parameter: string }[] = [];
  readonly #graph: GraphBuilder;
  readonly #options: QuantizationAware;
  readonly #sampleWeights: string;
  /** Values whose readers see them rounded. */
  readonly #values: ReadonlySet<string>;
  readonly #ranges: ReadonlyMap<string, string>;
  /** Axis of the channels of each layer's weight. */
  readonly #weights: ReadonlyMap<string, number>;
  readonly #twins: Map<string, string> = new Map();
  /** Nodes that the backward pass does not walk, with what it walks instead. */
  readonly #replaced: Map<NodeProto, NodeProto | undefined> = new Map();

  constructor(graph: GraphBuilder, model: ModelProto, options: QuantizationAware, sampleWeights: string) {
    this.#graph = graph;
    this.#options = options;
    this.#sampleWeights = sampleWeights;
    this.#values = new Set(options.activations === undefined ? [] : roundedValues(model));
    this.#ranges = new Map(keptRanges(model).map(({ tensor, value }) => [value, tensor]));
    const layers = options.weights === undefined ? [] : layersOf(graphOf(model));
    this.#weights = new Map(layers.map(({ weight, form }) => [weight.name, form === 'matrix' ? 1 : 0]));
  }

  /** The node with rounded values in the place of those that it reads. */
  reading(node: NodeProto): NodeProto {
    const bits = this.#options.weights;
    for (const name of node.input) {
      const axis = this.#weights.get(name);
      if (axis !== undefined && bits !== undefined && !this.#twins.has(name)) this.#roundWeight(name, axis, bits);
    }
    if (!node.input.some((name) => this.#twins.has(name))) return node;
    return { ...node, input: node.input.map((name) => this.#twins.get(name) ?? name) };
  }

  /** Rounds values that are there now, where the int8 form will. */
  made(names: readonly string[]): void {
    const bits = this.#options.activations;
    if (bits === undefined) return;
    for (const name of names) if (this.#values.has(name) && this.#graph.isFloat(name)) this.#roundValue(name, bits);
  }

  /** What the backward pass walks. */
  walked(nodes: readonly NodeProto[]): NodeProto[] {
    return nodes.flatMap((node) => (this.#replaced.has(node) ? (this.#replaced.get(node) ?? []) : [node]));
  }

  /** Symmetric, by the largest weight of each channel: nothing is clipped. */
  #roundWeight(name: string, axis: number, bits: number): void {
    const graph = this.#graph;
    const start = graph.nodes.length;
    const axes = graph.shapeOf(name).flatMap((_, at) => (at === axis ? [] : [at]));
    const largest = graph.emit('ReduceMax', [graph.emit('Abs', [name])], { axes, keepdims: 1 });
    const scale = graph.emit('Max', [
      graph.emit('Div', [largest, graph.scalar(2 ** (bits - 1) - 1)]),
      graph.scalar(SCALE_MIN),
    ]);
    this.#twins.set(name, this.#rounded(name, scale, start));
  }

  #roundValue(name: string, bits: number): void {
    const graph = this.#graph;
    const start = graph.nodes.length;
    const { below, above } = this.#rangeOf(name);
    const levels = 2 ** bits - 1;
    const width = graph.emit('Div', [graph.emit('Add', [below, above]), graph.scalar(levels)]);
    const scale = graph.emit('Max', [width, graph.scalar(SCALE_MIN)]);
    // Zero is a code, so that the range moves by less than half a step.
    const zero = graph.emit('Round', [graph.emit('Div', [below, scale])]);
    const low = graph.emit('Neg', [graph.emit('Mul', [zero, scale])]);
    const high = graph.emit('Mul', [graph.emit('Sub', [graph.scalar(levels), zero]), scale]);
    this.#hide(start);
    const clipped = graph.emit('Clip', [name, low, high]);
    this.#twins.set(name, this.#rounded(clipped, scale, graph.nodes.length));
  }

  #rounded(value: string, scale: string, start: number): string {
    const graph = this.#graph;
    const steps = graph.emit('Round', [graph.emit('Div', [value, scale])]);
    const twin = graph.emit('Mul', [steps, scale]);
    this.#hide(start);
    this.#replaced.set(graph.nodes.at(-1)!, makeNode('Identity', [value], [twin]));
    return twin;
  }

  /** The backward pass takes scales and ranges as given. */
  #hide(start: number): void {
    for (const node of this.#graph.nodes.slice(start)) this.#replaced.set(node, undefined);
  }

  /** How far the value reaches on either side of zero: as it is kept, moved a little towards the batch's, or the batch's own. */
  #rangeOf(name: string): { below: string; above: string } {
    const graph = this.#graph;
    const real = this.#ofRealExamples(name);
    const zero = graph.scalar(0);
    const sides = [
      graph.emit('Neg', [graph.emit('ReduceMin', [real], { keepdims: 0 })]),
      graph.emit('ReduceMax', [real], { keepdims: 0 }),
    ];
    const [below, above] = sides.map((side) => graph.emit('Max', [side, zero])) as [string, string];
    const kept = this.#ranges.get(name);
    if (kept === undefined || !graph.has(kept)) return { below, above };
    const one = graph.scalar(1);
    const logarithm = (side: string): string =>
      graph.emit('Div', [graph.emit('Log', [graph.emit('Add', [side, one])]), graph.scalar(Math.LN2)]);
    const column = (side: string): string => graph.emit('Reshape', [logarithm(side), graph.integers([1])]);
    const seen = graph.emit('Concat', [column(below), column(above)], { axis: 0 });
    const next = this.#moved(kept, seen);
    this.statistics.set(kept, next);
    const size = (place: number): string => {
      const stored = graph.emit('Gather', [next, graph.integers([place])], { axis: 0 });
      const scalar = graph.emit('Reshape', [graph.emit('Max', [stored, zero]), graph.integers([])]);
      return graph.emit('Sub', [graph.emit('Exp', [graph.emit('Mul', [scalar, graph.scalar(Math.LN2)])]), one]);
    };
    return { below: size(0), above: size(1) };
  }

  /** One that is empty takes the batch's; and none leaves what an update can say of it. */
  #moved(kept: string, seen: string): string {
    const graph = this.#graph;
    const towards = graph.emit('Mul', [graph.emit('Sub', [seen, kept]), graph.scalar(MOMENTUM)]);
    const total = graph.emit('ReduceMax', [kept], { keepdims: 0 });
    const isEmpty = graph.emit('LessOrEqual', [total, graph.scalar(0)]);
    const moved = graph.emit('Where', [isEmpty, seen, graph.emit('Add', [kept, towards])]);
    const input = graph.input(`training/${kept}/anchor`, graph.shapeOf(kept));
    this.anchors.push({ input, parameter: kept });
    const least = graph.emit('Sub', [input, graph.scalar(MOVE_MAX)]);
    const most = graph.emit('Add', [input, graph.scalar(MOVE_MAX)]);
    return graph.emit('Min', [graph.emit('Max', [moved, least]), most]);
  }

  /** What fills up a last batch says nothing of ranges; zero is in range anyway. */
  #ofRealExamples(name: string): string {
    const graph = this.#graph;
    const [batch] = graph.shapeOf(this.#sampleWeights);
    const shape = graph.shapeOf(name);
    if (shape[0] !== batch) return name;
    const column = graph.emit('Reshape', [
      this.#sampleWeights,
      graph.integers(shape.map((size, axis) => (axis === 0 ? size : 1))),
    ]);
    const isReal = graph.emit('Greater', [column, graph.scalar(0)]);
    return graph.emit('Where', [isReal, name, graph.scalar(0)]);
  }
}

/** Values that the static form rounds. Weights are not needed to know them. */
function roundedValues(model: ModelProto): readonly string[] {
  try {
    return calibrationGraph(model).values;
  } catch (cause) {
    if (!(cause instanceof QuantizeError)) throw cause;
    throw new QuantizeError(`quantizationAware: ${cause.message}`, { cause });
  }
}
