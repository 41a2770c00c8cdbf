import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { dimsOf, floatValues } from '../onnx/tensor-data.ts';
import { clamp, roundHalfEven } from './affine.ts';
import { transposed } from './channels.ts';
import { denseLayerOf } from './dense-layer.ts';
import type { DenseLayer } from './dense-layer.ts';
import { QuantizeError } from './errors.ts';
import { isStandard } from './graph-view.ts';
import { GraphWriter, RUNTIME_DOMAIN } from './graph-writer.ts';
import { prepare } from './prepare.ts';
import { excluder, idOf, requireLayers } from './select.ts';
import type { KeptLayer, LayerId, QuantizedModel, Selection } from './select.ts';
import { byteTensor } from './tensors.ts';

export interface BlockOptions extends Selection {
  bits?: 4 | 8;
  /** Numbers that share a scale: a power of two from 16 on. */
  blockSize?: number;
  /** How the runtime may compute: 4 rounds activations to int8, which is fastest; 1 keeps float32. */
  accuracyLevel?: AccuracyLevel;
}

/** `accuracy_level` of MatMulNBits: the type that activations may be rounded to. 0 is the runtime's choice, 1 float32, 2 float16, 3 bfloat16, 4 int8. */
export type AccuracyLevel = 0 | 1 | 2 | 3 | 4;

/** Codes of a matrix with one scale per block of a column. */
export interface Blocks {
  /** `[columns][blocks][blockSize * bits / 8]`; of two 4-bit codes the first is in the low half. */
  codes: Uint8Array;
  /** `[columns][blocks]` */
  scales: Float32Array;
}

/** Weights in small blocks of 4 or 8 bits, activations in float32: for models whose weights outweigh the work. */
export function quantizeBlocks(model: ModelProto, options: BlockOptions = {}): QuantizedModel {
  const { blockSize = 32 } = options;
  if (!Number.isInteger(Math.log2(blockSize)) || blockSize < 16 || blockSize > 256) {
    throw new QuantizeError(`blocks of ${blockSize} are not possible; give a power of two from 16 to 256`);
  }
  const { model: prepared, folded } = prepare(model);
  const writer = new GraphWriter(prepared);
  const isExcluded = excluder(options);
  const [layers, kept]: [LayerId[], KeptLayer[]] = [[], []];
  for (const node of writer.view.graph.node) {
    const layer = isStandard(node, 'MatMul', 'Gemm') ? denseLayerOf(node, writer.view) : undefined;
    if (layer !== undefined && typeof layer === 'object' && !isExcluded(node)) {
      layers.push(idOf(node));
      emitBlocks(layer, writer, { ...options, blockSize });
      continue;
    }
    if (layer !== undefined) kept.push({ ...idOf(node), reason: typeof layer === 'string' ? layer : 'is excluded' });
    writer.keep(node);
  }
  requireLayers(layers, kept, { graph: writer.view.graph, wanted: 'matrix product' });
  return { model: writer.finish(), layers, kept, folded };
}

export function emitBlocks(
  layer: DenseLayer,
  writer: GraphWriter,
  { bits = 4, blockSize = 32, accuracyLevel = 4 }: BlockOptions,
): void {
  const { node, activation, weight, rows, columns, isTransposed, alpha, beta, bias } = layer;
  const key = `blocks of ${weight.name} ${isTransposed} ${alpha}`;
  const scalesKey = `scales for ${key}`;
  const blocks = Math.ceil(rows / blockSize);
  const make = (): string => {
    const values = floatValues(weight);
    const byColumn = isTransposed ? values : transposed(values, ...(dimsOf(weight) as [number, number]));
    const { codes, scales } = blocksOf(byColumn, columns, rows, { bits, blockSize });
    const scaled = alpha === 1 ? scales : scales.map((scale) => scale * alpha);
    writer.once(scalesKey, () => writer.floats(`${weight.name}_block_scales`, [columns * blocks], scaled));
    const shape = [columns, blocks, (blockSize * bits) / 8];
    return writer.initializer(byteTensor(writer.fresh(`${weight.name}_blocks`), shape, codes));
  };
  const inputs = [activation, writer.once(key, make), writer.once(scalesKey, make)];
  const output = node.output[0]!;
  const product = bias === undefined ? output : writer.fresh(`${output}_product`);
  const attributes = { K: rows, N: columns, bits, block_size: blockSize, accuracy_level: accuracyLevel };
  writer.emit('MatMulNBits', inputs, product, attributes, RUNTIME_DOMAIN);
  if (bias !== undefined) writer.emit('Add', [product, writer.scaled(bias, beta)], output);
}

/** Codes around a middle that stands for zero. The number of largest size gets the lowest code: none is wasted. */
export function blocksOf(
  byColumn: Float32Array,
  columns: number,
  rows: number,
  { bits, blockSize }: { bits: 4 | 8; blockSize: number },
): Blocks {
  const blocks = Math.ceil(rows / blockSize);
  const middle = 2 ** (bits - 1);
  const scales = new Float32Array(columns * blocks);
  const unpacked = new Uint8Array(scales.length * blockSize).fill(middle);
  for (let block = 0; block < scales.length; block++) {
    const column = Math.floor(block / blocks);
    const start = column * rows + (block % blocks) * blockSize;
    const end = Math.min(start + blockSize, (column + 1) * rows);
    const extreme = extremeOf(byColumn, start, end);
    const scale = Math.fround(extreme / -middle);
    scales[block] = scale;
    // A scale too small to divide by stands for a block of zeros.
    if (Math.abs(scale) < 2 ** -126) continue;
    const target = block * blockSize - start;
    for (let index = start; index < end; index++) {
      const code = roundHalfEven(Math.fround(byColumn[index]! / scale)) + middle;
      unpacked[target + index] = clamp(code, 0, 2 * middle - 1);
    }
  }
  return { codes: bits === 8 ? unpacked : packedHalves(unpacked), scales };
}

/** The number of largest size, with its sign. */
function extremeOf(values: Float32Array, start: number, end: number): number {
  let [min, max, poison] = [0, 0, 0];
  for (let index = start; index < end; index++) {
    const value = values[index]!;
    poison += value - value;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  if (poison !== 0) throw new QuantizeError('a weight holds infinity or NaN; train or export the model again');
  return max > -min ? max : min;
}

function packedHalves(codes: Uint8Array): Uint8Array {
  const packed = new Uint8Array(codes.length / 2);
  for (let index = 0; index < packed.length; index++) packed[index] = codes[2 * index]! | (codes[2 * index + 1]! << 4);
  return packed;
}
