import { OnnxError } from '../onnx/errors.ts';
import { graphOf } from '../onnx/file.ts';
import type { GraphProto, ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { noteOf, trainingAll, trainingOnly, withNote } from '../onnx/metadata.ts';
import { makeNode } from '../onnx/nodes.ts';
import { dimsOf, floatTensor, floatValues, isEmptyShell } from '../onnx/tensor-data.ts';
import { seeded } from '../random/stream.ts';
import type { RandomStream } from '../random/stream.ts';
import { sizeOf } from '../tensor/shape.ts';
import { layersOf } from './layers.ts';
import type { Layer } from './layers.ts';
import type { LoraOptions } from './lora-options.ts';
import { fitsAny } from './name-pattern.ts';

const key = 'commonweight.lora';

/** What merging has to know of one adapted layer. */
interface Adapted {
  weight: string;
  form: Layer['form'];
  groups: number;
  /** Before the product of the adapters is added to the weight. */
  scale: number;
  /** The layer's output's name while it is adapted, and without. */
  base: string;
  output: string;
}

const downOf = (weight: string): string => `${weight}/lora.down`;
const upOf = (weight: string): string => `${weight}/lora.up`;

/**
 * Low-rank adapters (Hu et al. 2022) beside the layers whose weight or node fits a pattern: y = W·x + alpha/rank·up·down·x. All but the
 * adapters, and what `train` names, is frozen; the adapters begin as no change at all. Takes and gives a whole model.
 */
export function addLora(model: ModelProto, options: LoraOptions): ModelProto {
  if (noteOf(model, key) !== undefined) throw new OnnxError('the model has adapters already; merge them first');
  const graph = graphOf(model);
  const { targets, train = [], seed = 0 } = options;
  const chosen = layersOf(graph).filter(
    ({ weight, node }) => fitsAny(weight.name, targets) || fitsAny(node.name, targets),
  );
  if (chosen.length === 0) throw nothingFits(graph, targets);
  const shared = chosen.find(
    ({ weight, node }) => readersOf(graph, weight.name) > 1 || readersOf(graph, node.input[1]!) > 1,
  );
  if (shared !== undefined) {
    throw new OnnxError(
      `weight '${shared.weight.name}' is read more than once, and an adapter would change it in one place only; leave it out`,
    );
  }
  const random = seeded(seed);
  const additions = new Map(chosen.map((layer) => [layer.node, adapterOf(layer, options, random)]));
  const adapters = [...additions.values()];
  const adapted: ModelProto = {
    ...model,
    graph: {
      ...graph,
      node: graph.node.flatMap((node) => additions.get(node)?.nodes ?? [node]),
      initializer: [...graph.initializer, ...adapters.flatMap(({ tensors }) => tensors)],
    },
  };
  const trained = [
    ...adapters.flatMap(({ note }) => [downOf(note.weight), upOf(note.weight)]),
    ...graph.initializer.map(({ name }) => name).filter((name) => fitsAny(name, train)),
  ];
  return withNote(
    trainingOnly(adapted, trained),
    key,
    adapters.map(({ note }) => note),
  );
}

/** Adds the adapters into the weights and takes them out of the graph: the answer is an ordinary model of the base's shape. */
export function mergeLora(model: ModelProto): ModelProto {
  const notes = noteOf(model, key) as readonly Adapted[] | undefined;
  if (notes === undefined) throw new OnnxError('the model has no adapters; give one that was made with them');
  const graph = graphOf(model);
  const tensors = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]));
  const gone = new Set(notes.flatMap((note) => [downOf(note.weight), upOf(note.weight), scaleOf(note.weight)]));
  const merged = new Map(notes.map((note) => [note.weight, mergedWeight(note, tensors)]));
  const outputs = new Map(notes.map(({ base, output }) => [base, output]));
  const isAdapter = ({ name }: NodeProto): boolean => notes.some(({ output }) => name.startsWith(nodesOf(output)));
  const node = graph.node
    .filter((one) => !isAdapter(one))
    .map((one) => ({ ...one, output: one.output.map((name) => outputs.get(name) ?? name) }));
  const initializer = graph.initializer
    .filter(({ name }) => !gone.has(name))
    .map((tensor) => merged.get(tensor.name) ?? tensor);
  return withNote(trainingAll({ ...model, graph: { ...graph, node, initializer } }), key, undefined);
}

const scaleOf = (weight: string): string => `${weight}/lora.scale`;
const nodesOf = (output: string): string => `${output}/lora.`;

function adapterOf(
  layer: Layer,
  { rank, alpha }: LoraOptions,
  random: RandomStream,
): { nodes: NodeProto[]; tensors: TensorProto[]; note: Adapted } {
  const { node, weight, form, factor, groups } = layer;
  const [x, output] = [node.input[0]!, node.output[0]!];
  const [down, up, scale] = [downOf(weight.name), upOf(weight.name), scaleOf(weight.name)];
  const base = `${output}/base`;
  const part = (name: string): string => `${nodesOf(output)}${name}`;
  const note = { weight: weight.name, form, groups, scale: alpha / rank / factor, base, output };
  const [downShape, upShape] = adapterShapes(layer, rank);
  const like = node.attribute.filter(({ name }) => name !== 'kernel_shape');
  const inner =
    form === 'kernel'
      ? [
          { ...makeNode('Conv', [x, down], [part('down')]), attribute: like },
          makeNode('Conv', [part('down'), up], [part('up')], { group: groups }),
        ]
      : [makeNode('MatMul', [x, down], [part('down')]), makeNode('MatMul', [part('down'), up], [part('up')])];
  return {
    note,
    nodes: [
      { ...node, output: [base] },
      ...inner,
      makeNode('Mul', [part('up'), scale], [part('scaled')]),
      makeNode('Add', [base, part('scaled')], [output], {}, part('sum')),
    ],
    tensors: [
      floatTensor(down, downShape, beginning(downShape, form, random.fork(down))),
      floatTensor(up, upShape, new Float32Array(sizeOf(upShape))),
      floatTensor(scale, [], Float32Array.of(alpha / rank)),
    ],
  };
}

/** Shapes of down and up; of a kernel with groups each group has its own rank. */
function adapterShapes({ weight, form, groups }: Layer, rank: number): [number[], number[]] {
  const [first = 1, second = 1, ...kernel] = dimsOf(weight);
  if (form === 'kernel')
    return [
      [groups * rank, second, ...kernel],
      [first, rank, ...kernel.map(() => 1)],
    ];
  const [inputs, outputs] = form === 'matrix' ? [first, second] : [second, first];
  return [
    [inputs, rank],
    [rank, outputs],
  ];
}

/** Uniform within 1/√(inputs of one number), as linear layers begin. */
function beginning(shape: readonly number[], form: Layer['form'], random: RandomStream): Float32Array {
  const bound = 1 / Math.sqrt(form === 'kernel' ? sizeOf(shape.slice(1)) : shape[0]!);
  return Float32Array.from({ length: sizeOf(shape) }, () => (2 * random.uniform() - 1) * bound);
}

/** The weight with the adapters' product added in double precision and rounded once. */
function mergedWeight(
  { weight, form, groups, scale }: Adapted,
  tensors: ReadonlyMap<string, TensorProto>,
): TensorProto {
  const read = (name: string): Weight => {
    const tensor = tensors.get(name);
    if (tensor === undefined || isEmptyShell(tensor)) {
      throw new OnnxError(`tensor '${name}' has no values; give the whole model, with its weights joined`);
    }
    return { shape: dimsOf(tensor), values: floatValues(tensor) };
  };
  const [base, down, up] = [read(weight), read(downOf(weight)), read(upOf(weight))];
  const rank = form === 'kernel' ? up.shape[1]! : up.shape[0]!;
  const change = form === 'kernel' ? kernelChange(down, up, rank, groups) : matrixChange(down, up, rank);
  const [, columns = 1] = base.shape;
  const rows = base.shape[0]!;
  const values = base.values.map((value, index) => {
    const at = form === 'turned' ? (index % columns) * rows + Math.floor(index / columns) : index;
    return value + scale * change(at);
  });
  return floatTensor(weight, base.shape, values);
}

interface Weight {
  shape: readonly number[];
  values: Float32Array;
}

/** Element of down·up, [inputs, outputs]. */
function matrixChange(down: Weight, up: Weight, rank: number): (index: number) => number {
  const outputs = up.shape[1]!;
  return (index) => {
    const [row, column] = [Math.floor(index / outputs), index % outputs];
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += down.values[row * rank + r]! * up.values[r * outputs + column]!;
    return sum;
  };
}

/** Element of the kernel that down and then up are together, [filters, channels, ...]. */
function kernelChange(down: Weight, up: Weight, rank: number, groups: number): (index: number) => number {
  const size = sizeOf(down.shape.slice(1));
  const perGroup = up.shape[0]! / groups;
  return (index) => {
    const [filter, tap] = [Math.floor(index / size), index % size];
    const first = Math.floor(filter / perGroup) * rank;
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += up.values[filter * rank + r]! * down.values[(first + r) * size + tap]!;
    return sum;
  };
}

function readersOf({ node }: GraphProto, name: string): number {
  return node.reduce((count, { input }) => count + input.filter((one) => one === name).length, 0);
}

function nothingFits(graph: GraphProto, targets: readonly string[]): OnnxError {
  const names = layersOf(graph).map(({ weight }) => weight.name);
  const some = names.slice(0, 5).join(', ');
  return new OnnxError(
    `no layer fits ${targets.join(', ')}; the model has ${names.length} layers${some === '' ? '' : `, such as ${some}`}`,
  );
}
