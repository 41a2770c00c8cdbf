import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { intAttribute } from '../onnx/nodes.ts';
import { dimsOf, floatValues } from '../onnx/tensor-data.ts';
import { quantizeChannels, transposed } from './channels.ts';
import type { WeightBits } from './channels.ts';
import { denseLayerOf, ROWS_MAX } from './dense-layer.ts';
import type { DenseLayer } from './dense-layer.ts';
import { isStandard } from './graph-view.ts';
import { GraphWriter } from './graph-writer.ts';
import { lstmRewriteOf } from './lstm.ts';
import { prepare } from './prepare.ts';
import { excluder, idOf, requireLayers } from './select.ts';
import type { KeptLayer, LayerId, QuantizedModel, Selection } from './select.ts';
import { byteTensor } from './tensors.ts';

export interface DynamicOptions extends Selection {
  /** Bits of a weight; 7 for CPUs that add pairs of products in 16 bits (AVX2 and AVX-512 without VNNI). */
  weightBits?: WeightBits;
}

/**
 * Int8 weights, and activations whose range is measured at every run. Matrix products, LSTMs and embedding tables are
 * quantized; convolutions never, because ConvInteger is slower than the float kernel. No calibration data is needed.
 */
export function quantizeDynamic(model: ModelProto, options: DynamicOptions = {}): QuantizedModel {
  const { model: prepared, folded } = prepare(model);
  const writer = new GraphWriter(prepared);
  const isExcluded = excluder(options);
  const [layers, kept]: [LayerId[], KeptLayer[]] = [[], []];
  for (const node of writer.view.graph.node) {
    const rewrite = rewriteOf(node, writer, options);
    if (rewrite === undefined) {
      writer.keep(node);
      continue;
    }
    const reason = isExcluded(node) ? 'is excluded' : rewrite;
    if (typeof reason === 'string') {
      kept.push({ ...idOf(node), reason });
      writer.keep(node);
    } else {
      layers.push(idOf(node));
      reason();
    }
  }
  requireLayers(layers, kept, { graph: writer.view.graph, wanted: 'matrix product, LSTM or embedding table' });
  return { model: writer.finish(), layers, kept, folded };
}

/** Writes the layer quantized when called; a reason where it must stay, and nothing for other operators. */
function rewriteOf(node: NodeProto, writer: GraphWriter, options: DynamicOptions): (() => void) | string | undefined {
  if (isStandard(node, 'MatMul', 'Gemm')) {
    const layer = denseLayerOf(node, writer.view);
    if (typeof layer === 'string') return layer;
    if (layer.rows > ROWS_MAX) return `sums ${layer.rows} products, too many for int32`;
    return () => emitDense(layer, writer, options);
  }
  if (isStandard(node, 'LSTM')) return lstmRewriteOf(node, writer, options.weightBits ?? 8);
  return isStandard(node, 'Gather') ? tableRewriteOf(node, writer, options.weightBits ?? 8) : undefined;
}

/** In the shape that onnxruntime fuses into one DynamicQuantizeMatMul. */
export function emitDense(layer: DenseLayer, writer: GraphWriter, { weightBits = 8 }: DynamicOptions): void {
  const { activation, node, bias, beta } = layer;
  const output = node.output[0]!;
  const [codes, scale, zero] = dynamicCodes(activation, writer);
  const weight = matrixCodes(layer, writer, weightBits);
  const sums = writer.emit('MatMulInteger', [codes, weight.codes, zero], writer.fresh(`${output}_int32`));
  const floats = writer.emit('Cast', [sums], writer.fresh(`${output}_float`), { to: TensorProto_DataType.FLOAT });
  const scales = writer.emit('Mul', [scale, weight.scales], writer.fresh(`${output}_scale`));
  const product = bias === undefined ? output : writer.fresh(`${output}_product`);
  writer.emit('Mul', [floats, scales], product);
  if (bias !== undefined) writer.emit('Add', [product, writer.scaled(bias, beta)], output);
}

/** Codes, scale and zero point of an activation, computed once for all that read it. */
function dynamicCodes(activation: string, writer: GraphWriter): [string, string, string] {
  const names = ['codes', 'scale', 'zero'].map((part) =>
    writer.once(`${part} of ${activation}`, () => writer.fresh(`${activation}_${part}`)),
  );
  writer.once(`node of ${activation}`, () => {
    const name = writer.emit('DynamicQuantizeLinear', [activation], names[0]!);
    writer.nodes.at(-1)!.output = [...names];
    return name;
  });
  return names as [string, string, string];
}

/** The matrix as `[rows, columns]` codes, alpha in its scales. Tied weights are stored once. */
function matrixCodes(
  { weight, rows, columns, isTransposed, alpha }: DenseLayer,
  writer: GraphWriter,
  bits: WeightBits,
): { codes: string; scales: string } {
  const key = `${weight.name} ${isTransposed} ${alpha}`;
  const [codes, scales] = [`codes of ${key}`, `scales of ${key}`];
  const make = (): string => {
    const quantized = quantizeChannels(floatValues(weight), dimsOf(weight), isTransposed ? 0 : 1, { bits });
    const matrix = isTransposed ? transposed(quantized.codes, columns, rows) : quantized.codes;
    const scaled = alpha === 1 ? quantized.scales : quantized.scales.map((scale) => scale * alpha);
    writer.once(scales, () => writer.floats(`${weight.name}_scales`, [columns], scaled));
    return writer.initializer(byteTensor(writer.fresh(`${weight.name}_codes`), [rows, columns], matrix));
  };
  return { codes: writer.once(codes, make), scales: writer.once(scales, make) };
}

/** An embedding table keeps one scale per row: rows differ more than columns do. */
function tableRewriteOf(node: NodeProto, writer: GraphWriter, bits: WeightBits): (() => void) | string | undefined {
  const table = writer.view.constants.get(node.input[0] ?? '');
  if (table === undefined || table.dataType !== TensorProto_DataType.FLOAT) return undefined;
  const shape = dimsOf(table);
  if (shape.length !== 2 || shape.includes(0)) return `reads a table of ${shape.length} axes instead of 2`;
  if (intAttribute(node, 'axis', 0) !== 0) return 'reads columns of its table';
  return () => {
    const output = node.output[0]!;
    const indices = node.input[1]!;
    const key = `row codes of ${table.name}`;
    const make = (): string => {
      const { codes, scales } = quantizeChannels(floatValues(table), shape, 0, { bits });
      writer.once(`scales for ${key}`, () => writer.floats(`${table.name}_row_scales`, [shape[0]!, 1], scales));
      return writer.initializer(byteTensor(writer.fresh(`${table.name}_row_codes`), shape, codes));
    };
    const codes = writer.once(key, make);
    const scales = writer.once(`scales for ${key}`, make);
    const rows = writer.emit('Gather', [codes, indices], writer.fresh(`${output}_codes`), { axis: 0 });
    const floats = writer.emit('Cast', [rows], writer.fresh(`${output}_float`), { to: TensorProto_DataType.FLOAT });
    const scale = writer.emit('Gather', [scales, indices], writer.fresh(`${output}_scale`), { axis: 0 });
    writer.emit('Mul', [floats, scale], output);
  };
}
