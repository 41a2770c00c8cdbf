import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { dimsOf, floatTensor, floatValues } from '../onnx/tensor-data.ts';
import { affineOf, clamp, roundHalfEven } from './affine.ts';
import type { Affine, ByteType, Range } from './affine.ts';
import { quantizeChannels } from './channels.ts';
import type { WeightBits } from './channels.ts';
import { denseLayerOf } from './dense-layer.ts';
import { QuantizeError } from './errors.ts';
import { GraphWriter } from './graph-writer.ts';
import { isMover, place, readOnCodes } from './placement.ts';
import type { Placement } from './placement.ts';
import { prepare } from './prepare.ts';
import { idOf, requireLayers } from './select.ts';
import type { QuantizedModel, Selection } from './select.ts';
import { byteTensor, int32Tensor } from './tensors.ts';

export interface StaticOptions extends Selection {
  /** `uint8` is fastest on CPUs; `int8` is what TensorRT and many accelerators want. */
  activations?: ByteType;
  /**
   * Bits of a weight; 7 for CPUs that add pairs of products in 16 bits (AVX2 and AVX-512 without VNNI). Fewer are stored as int8 all the
   * same: they are for files that are compressed, and need a model that was trained for them.
   */
  weightBits?: WeightBits;
}

/** Half of int32, so that a bias leaves room for the sum of the products. */
const BIAS_MAX = 2 ** 30;

/**
 * Int8 weights per channel and activations with fixed scales, written as QuantizeLinear and DequantizeLinear pairs.
 * `ranges` come from calibration, by value name.
 */
export function quantizeStatic(
  model: ModelProto,
  ranges: ReadonlyMap<string, Range>,
  options: StaticOptions = {},
): QuantizedModel {
  const { model: prepared, folded } = prepare(model);
  const writer = new GraphWriter(prepared);
  const placement = place(writer.view, options);
  const layers = [...placement.anchors].map(idOf);
  requireLayers(layers, placement.kept, { graph: writer.view.graph, wanted: 'convolution or matrix product' });
  const rounding = new StaticRounding(writer, placement, ranges, options);
  for (const { name } of writer.view.graph.input) rounding.roundWhereRead(name);
  for (const node of writer.view.graph.node) {
    rounding.writeNode(node);
    for (const name of node.output) if (!placement.madeOnCodes.has(name)) rounding.roundWhereRead(name);
  }
  return { model: writer.finish(), layers, kept: placement.kept, folded };
}

/** Writes the nodes of a static model with the roundings around them. */
class StaticRounding {
  readonly #writer: GraphWriter;
  readonly #placement: Placement;
  readonly #ranges: ReadonlyMap<string, Range>;
  readonly #activations: ByteType;
  readonly #weightBits: WeightBits;
  /** Rounded twins of values that a float node makes: only nodes on codes read those. */
  readonly #rounded: Map<string, string> = new Map();

  constructor(
    writer: GraphWriter,
    placement: Placement,
    ranges: ReadonlyMap<string, Range>,
    { activations = 'uint8', weightBits = 8 }: StaticOptions,
  ) {
    this.#writer = writer;
    this.#placement = placement;
    this.#ranges = ranges;
    this.#activations = activations;
    this.#weightBits = weightBits;
  }

  writeNode(node: NodeProto): void {
    const { anchors, carriers, madeOnCodes } = this.#placement;
    let written = node;
    if (anchors.has(node) || carriers.has(node)) {
      const read = readOnCodes(node);
      written = { ...node, input: node.input.map((name) => (read.includes(name) ? this.#roundedName(name) : name)) };
    }
    if (anchors.has(node)) written = this.#withCodedWeights(written, node);
    const output = node.output[0]!;
    if (!madeOnCodes.has(output)) return this.#writer.keep(written);
    const exact = this.#writer.fresh(`${output}_exact`);
    this.#writer.keep({ ...written, output: [exact] });
    // The rounded value takes the old name, so that every reader sees it.
    this.#round(output, exact, output);
  }

  /** Gives a value that a float node makes a rounded twin, if a node on codes reads it. */
  roundWhereRead(name: string): void {
    if (!this.#placement.values.has(name)) return;
    const twin = this.#writer.fresh(`${name}_rounded`);
    this.#rounded.set(name, twin);
    this.#round(name, name, twin);
  }

  #roundedName(name: string): string {
    return this.#rounded.get(name) ?? name;
  }

  #round(value: string, exact: string, rounded: string): void {
    const parameters = this.#parameters(value);
    const codes = this.#writer.emit('QuantizeLinear', [exact, ...parameters], this.#writer.fresh(`${value}_codes`));
    this.#writer.emit('DequantizeLinear', [codes, ...parameters], rounded);
  }

  /** Names of the scale and the zero point. */
  #parameters(value: string): [string, string] {
    const source = this.#placement.values.get(value)!;
    const { type, scale, zeroPoint } = this.#affine(value);
    return [
      this.#writer.once(`scale ${source}`, () => this.#writer.floats(`${source}_scale`, [], Float32Array.of(scale))),
      this.#writer.once(`zero ${source}`, () => {
        const code = type === 'int8' ? Int8Array.of(zeroPoint) : Uint8Array.of(zeroPoint);
        return this.#writer.initializer(byteTensor(this.#writer.fresh(`${source}_zero`), [], code));
      }),
    ];
  }

  #affine(value: string): Affine {
    const source = this.#placement.values.get(value)!;
    const range = this.#rangeOf(source);
    if (range !== undefined) return affineOf(range, this.#activations);
    throw new QuantizeError(`value '${source}' was not calibrated; calibrate this model with these options`);
  }

  /** Of a value that only moved numbers, that of where they came from: it is not calibrated on its own. */
  #rangeOf(value: string): Range | undefined {
    const range = this.#ranges.get(value);
    const maker = this.#writer.view.maker(value);
    return range === undefined && maker !== undefined && isMover(maker) ? this.#rangeOf(maker.input[0]!) : range;
  }

  #withCodedWeights(written: NodeProto, node: NodeProto): NodeProto {
    const { view } = this.#writer;
    const dense = node.opType === 'Conv' ? undefined : denseLayerOf(node, view);
    if (typeof dense === 'string') return written;
    const weight = view.constants.get(node.input[1]!)!;
    const shape = dimsOf(weight);
    const axis = dense === undefined || dense.isTransposed ? 0 : 1;
    const values = floatValues(weight).map((value) => value * (dense?.alpha ?? 1));
    const bias = this.#biasOf(node, shape[axis]!, dense?.beta ?? 1);
    const activationScale = this.#affine(node.input[0]!).scale;
    const scaleMin = (channel: number): number => Math.abs(bias?.[channel] ?? 0) / activationScale / BIAS_MAX;
    const { codes, scales } = quantizeChannels(values, shape, axis, { bits: this.#weightBits, scaleMin });
    const hint = `${node.output[0]}_weight`;
    const weightCodes = this.#writer.initializer(byteTensor(this.#writer.fresh(`${hint}_codes`), shape, codes));
    const input = [
      written.input[0]!,
      this.#dequantized(weightCodes, scales, hint, this.#zeros('int8', scales.length), axis),
    ];
    if (bias !== undefined) input.push(this.#codedBias(bias, scales, activationScale, `${node.output[0]}_bias`));
    const attribute = written.attribute.filter(({ name }) => name !== 'alpha' && name !== 'beta');
    return { ...written, input, attribute };
  }

  /** One number per channel, beta in it. */
  #biasOf(node: NodeProto, channels: number, beta: number): Float32Array | undefined {
    const tensor = this.#writer.view.constants.get(node.input[2] ?? '');
    if (tensor === undefined) return undefined;
    const values = floatValues(tensor);
    return Float32Array.from({ length: channels }, (_, index) => values[values.length === 1 ? 0 : index]! * beta);
  }

  /** Int32 codes with the scale of the products, so that the runtime adds them to its sums as they are. */
  #codedBias(bias: Float32Array, weightScales: Float32Array, activationScale: number, hint: string): string {
    const scales = weightScales.map((scale) => scale * activationScale);
    const codes = Int32Array.from(bias, (value, channel) =>
      clamp(roundHalfEven(value / scales[channel]!), -(2 ** 31), 2 ** 31 - 1),
    );
    const name = this.#writer.initializer(int32Tensor(this.#writer.fresh(`${hint}_codes`), [codes.length], codes));
    return this.#dequantized(name, scales, hint, this.#zeros('int32', codes.length), 0);
  }

  /** Zero points of that many channels; layers of equal width share them. */
  #zeros(type: 'int8' | 'int32', length: number): string {
    const name = `${type}_zeros_${length}`;
    return this.#writer.once(name, () => {
      const fresh = this.#writer.fresh(name);
      return this.#writer.initializer(
        type === 'int8'
          ? byteTensor(fresh, [length], new Int8Array(length))
          : int32Tensor(fresh, [length], new Int32Array(length)),
      );
    });
  }

  #dequantized(codes: string, scales: Float32Array, hint: string, zeros: string, axis: number): string {
    const name = this.#writer.initializer(floatTensor(this.#writer.fresh(`${hint}_scales`), [scales.length], scales));
    return this.#writer.emit('DequantizeLinear', [codes, name, zeros], this.#writer.fresh(`${hint}_rounded`), { axis });
  }
}
