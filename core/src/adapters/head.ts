import { ConfigError } from '../errors.ts';
import { OnnxError } from '../onnx/errors.ts';
import { graphOf } from '../onnx/file.ts';
import type { GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { trainedNames, trainingOnly } from '../onnx/metadata.ts';
import { dimsOf, floatTensor } from '../onnx/tensor-data.ts';
import { seeded } from '../random/stream.ts';
import { sizeOf } from '../tensor/shape.ts';
import { layersOf } from './layers.ts';
import type { Layer } from './layers.ts';

export interface HeadOptions {
  /** Classes, or numbers, that the new head answers with. */
  classes: number;
  /** What is trained afterwards: everything, or the new head alone while the rest is frozen. */
  train?: 'all' | 'head';
  seed?: number;
}

const classesMax = 1_000_000;

// They change numbers one by one, or each row by itself, so that they do for any number of classes.
const afterHead: readonly string[] = ['Identity', 'Softmax', 'LogSoftmax', 'Sigmoid'];

/** A model's last dense layer made anew for another number of classes. Takes and gives a whole model; throws OnnxError where there is none. */
export function replaceHead(model: ModelProto, { classes, train = 'all', seed = 0 }: HeadOptions): ModelProto {
  if (!Number.isInteger(classes) || classes < 1 || classes > classesMax) {
    throw new ConfigError(`classes must be a whole number from 1 to ${classesMax}`, 'classes');
  }
  const graph = graphOf(model);
  const { layer, bias } = headOf(graph);
  const { weight, form } = layer;
  const [first = 1, second = 1] = dimsOf(weight);
  const [inputs, shape] = form === 'matrix' ? [first, [first, classes]] : [second, [classes, second]];
  const random = seeded(seed).fork(weight.name);
  const bound = 1 / Math.sqrt(inputs);
  const values = Float32Array.from({ length: sizeOf(shape) }, () => (2 * random.uniform() - 1) * bound);
  const renewed = new Map([[weight.name, floatTensor(weight.name, shape, values)]]);
  if (bias !== undefined) {
    const wide = [...dimsOf(bias).slice(0, -1), classes];
    renewed.set(bias.name, floatTensor(bias.name, wide, new Float32Array(sizeOf(wide))));
  }
  const changed: ModelProto = {
    ...model,
    graph: {
      ...graph,
      initializer: graph.initializer.map((tensor) => renewed.get(tensor.name) ?? tensor),
      output: graph.output.map((value, index) => (index === 0 ? withLastSize(value, classes) : value)),
      // Notes about shapes in between may speak of the old head.
      valueInfo: [],
    },
  };
  const names = [...renewed.keys()];
  const before = trainedNames(model);
  if (train === 'head') return trainingOnly(changed, names);
  return before === undefined ? changed : trainingOnly(changed, [...new Set([...before, ...names])]);
}

interface Head {
  layer: Layer;
  bias: TensorProto | undefined;
}

function headOf(graph: GraphProto): Head {
  const makers = new Map(graph.node.flatMap((node) => node.output.map((name) => [name, node] as const)));
  let node = makers.get(graph.output[0]!.name);
  while (node !== undefined && afterHead.includes(node.opType)) node = makers.get(node.input[0]!);
  if (node === undefined) throw noHead(undefined);
  const layers = layersOf(graph).filter(({ form }) => form !== 'kernel');
  const tensorOf = (name: string | undefined): TensorProto | undefined =>
    graph.initializer.find((tensor) => tensor.name === name);
  const made = (name: string): Layer | undefined => layers.find((one) => one.node === makers.get(name));
  const own = layers.find((one) => one.node === node);
  if (own !== undefined) return notShared(graph, { layer: own, bias: tensorOf(node.input[2]) });
  const [a, b] = node.input as [string, string];
  const layer = node.opType === 'Add' ? (made(a) ?? made(b)) : undefined;
  const bias = layer === undefined ? undefined : tensorOf(layer.node.output[0] === a ? b : a);
  if (layer === undefined || bias === undefined) throw noHead(node);
  return notShared(graph, { layer, bias });
}

function notShared(graph: GraphProto, head: Head): Head {
  const { layer, bias } = head;
  const names = [layer.weight.name, layer.node.input[1]!, ...(bias === undefined ? [] : [bias.name])];
  const readers = (name: string): number =>
    graph.node.reduce((n, { input }) => n + input.filter((i) => i === name).length, 0);
  const shared = names.find((name) => readers(name) > 1);
  if (shared === undefined) return head;
  throw new OnnxError(
    `the head's '${shared}' is read elsewhere too, as a tied embedding is; untie it and export again`,
  );
}

function noHead(node: NodeProto | undefined): OnnxError {
  const what = node === undefined ? 'the input itself' : `${node.opType} of node '${node.name}'`;
  return new OnnxError(`the first output comes from ${what}; a head is a Gemm, or a MatMul with or without a bias`);
}

function withLastSize(value: ValueInfoProto, size: number): ValueInfoProto {
  const type = value.type?.value;
  if (type?.case !== 'tensorType' || type.value.shape === undefined) return value;
  const dim = type.value.shape.dim.map((one, axis, all) =>
    axis === all.length - 1 ? { ...one, value: { case: 'dimValue' as const, value: BigInt(size) } } : one,
  );
  const tensorType = { ...type.value, shape: { ...type.value.shape, dim } };
  return { ...value, type: { ...value.type!, value: { case: 'tensorType', value: tensorType } } };
}
