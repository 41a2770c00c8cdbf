import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { intAttribute, intsAttribute } from '../onnx/nodes.ts';
import { permutationOf } from '../onnx/shapes.ts';
import { sizeOf, wrapAxis } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';
import type { Channel, Constant, Track } from './channels.ts';
import type { Follower } from './follower.ts';

/** Says what a node does to channels. */
export type FollowRule = (node: NodeProto, follower: Follower) => void;

const passed: FollowRule = (node, follower) => {
  const track = follower.track(node.input[0]!);
  if (track !== undefined) follower.setTrack(node.output[0]!, track);
};

/** Work channel by channel where the channels are axis 1, and mix along the others. */
const spatial: FollowRule = (node, follower) => {
  const track = follower.track(node.input[0]!);
  if (track === undefined) return;
  if (track.axis === 1) follower.setTrack(node.output[0]!, track);
  else follower.stop(node, 'moves a window along the channels');
};

/** Numbers for each channel: a scale, a shift, a mean. */
const normalised: FollowRule = (node, follower) => {
  const channels = follower.channelsOf(node.input[0]!, 1, node);
  for (const name of node.input.slice(1)) {
    const constant = follower.constant(name);
    if (constant === undefined) return follower.stop(node, `computes its input '${name}'`);
    follower.cut(constant, 0, channels);
  }
  follower.setTrack(node.output[0]!, { axis: 1, channels });
};

/** Number by number with broadcasting: what meets at one place stays or goes together. */
const together: FollowRule = (node, follower) => {
  const names = node.input.filter((name) => name !== '');
  const rank = Math.max(...names.map((name) => follower.shapeOf(name).length));
  const tracks = names.flatMap((name) => {
    const track = follower.track(name);
    return track === undefined ? [] : [{ name, track, axis: track.axis + rank - follower.shapeOf(name).length }];
  });
  const [first] = tracks;
  if (first === undefined) return follower.stop(node, 'reads numbers that no layer makes');
  if (tracks.some(({ axis }) => axis !== first.axis)) {
    return follower.stop(node, 'joins channels that lie along different axes');
  }
  const size = first.track.channels.length;
  const sizeIn = (name: string): number =>
    follower.shapeOf(name)[first.axis - rank + follower.shapeOf(name).length] ?? 1;
  if (names.some((name) => sizeIn(name) > size)) return follower.stop(node, 'spreads one channel over several');
  for (const name of names) {
    const own = first.axis - rank + follower.shapeOf(name).length;
    if (sizeIn(name) !== size || size === 1) continue;
    const constant = follower.constant(name);
    if (constant !== undefined) follower.cut(constant, own, first.track.channels);
    else follower.sets.uniteAll(first.track.channels, follower.channelsOf(name, own, node));
  }
  follower.setTrack(node.output[0]!, { axis: first.axis, channels: first.track.channels });
};

const convolved: FollowRule = (node, follower) => {
  const [x, weightName, biasName = ''] = node.input as [string, string, string?];
  const weight = follower.constant(weightName);
  const bias = follower.constant(biasName);
  if (weight === undefined || (biasName !== '' && bias === undefined)) {
    return follower.stop(node, 'computes its weight or its bias');
  }
  const channels = follower.channelsOf(x, 1, node);
  const groups = intAttribute(node, 'group', 1);
  const made = channelsMade(node, weight, channels, groups, follower);
  if (bias !== undefined) follower.cut(bias, 0, made);
  follower.setTrack(node.output[0]!, { axis: 1, channels: made });
};

function channelsMade(
  node: NodeProto,
  weight: Constant,
  channels: readonly Channel[],
  groups: number,
  follower: Follower,
): readonly Channel[] {
  const [filters, width] = weight.shape as [number, number];
  if (groups === 1) {
    follower.cut(weight, 1, channels);
    return follower.make(node, weight, 0);
  }
  if (width === 1 && groups === channels.length) {
    // Depthwise: each channel is changed by filters of its own.
    const perChannel = filters / groups;
    const repeated = Array.from({ length: filters }, (_, filter) => channels[Math.floor(filter / perChannel)]!);
    const slice = follower.cut(weight, 0, repeated);
    follower.makers.push({ ...slice, node, isSource: false });
    return slice.channels;
  }
  // Every group loses the same places, so that all stay equally wide.
  const folded = (all: readonly Channel[], size: number): readonly Channel[] => {
    all.forEach((channel, place) => follower.sets.unite(all[place % size]!, channel));
    return all;
  };
  follower.cut(weight, 1, folded(channels, width).slice(0, width));
  return folded(follower.make(node, weight, 0), filters / groups);
}

const transposedConvolved: FollowRule = (node, follower) => {
  const [x, weightName, biasName = ''] = node.input as [string, string, string?];
  const weight = follower.constant(weightName);
  const bias = follower.constant(biasName);
  if (weight === undefined || (biasName !== '' && bias === undefined)) {
    return follower.stop(node, 'computes its weight or its bias');
  }
  if (intAttribute(node, 'group', 1) !== 1) return follower.stop(node, 'is in groups');
  follower.cut(weight, 0, follower.channelsOf(x, 1, node));
  const made = follower.make(node, weight, 1);
  if (bias !== undefined) follower.cut(bias, 0, made);
  follower.setTrack(node.output[0]!, { axis: 1, channels: made });
};

const gemm: FollowRule = (node, follower) => {
  const [x, weightName, biasName = ''] = node.input as [string, string, string?];
  const weight = follower.constant(weightName);
  if (weight === undefined || intAttribute(node, 'transA', 0) === 1) {
    return follower.stop(node, weight === undefined ? 'computes its weight' : 'turns its input over');
  }
  const [rows, columns] = intAttribute(node, 'transB', 0) === 1 ? [1, 0] : [0, 1];
  follower.cut(weight, rows, follower.channelsOf(x, 1, node));
  const made = follower.make(node, weight, columns);
  follower.setTrack(node.output[0]!, { axis: 1, channels: made });
  if (biasName === '') return;
  const bias = follower.constant(biasName);
  const last = follower.shapeOf(biasName).length - 1;
  if (bias === undefined) follower.sets.uniteAll(made, follower.channelsOf(biasName, last, node));
  else if (bias.shape[last] === made.length) follower.cut(bias, last, made);
};

const matrixProduct: FollowRule = (node, follower) => {
  const [x, weightName] = node.input as [string, string];
  const weight = follower.constant(weightName);
  if (weight === undefined || weight.shape.length !== 2) return follower.stop(node, 'multiplies two values');
  const last = follower.shapeOf(x).length - 1;
  const track = follower.track(x);
  const rows = track?.axis === last ? track.channels : follower.sets.fresh(weight.shape[0]!, untracked(node));
  follower.cut(weight, 0, rows);
  if (track === undefined || track.axis === last) {
    follower.setTrack(node.output[0]!, { axis: last, channels: follower.make(node, weight, 1) });
    return;
  }
  // The channels lie along an axis that the product leaves alone.
  follower.cut(weight, 1, follower.sets.fresh(weight.shape[1]!, untracked(node)));
  follower.setTrack(node.output[0]!, track);
};

const untracked = (node: NodeProto): { node: NodeProto; reason: string } => ({
  node,
  reason: 'reads numbers that no layer makes',
});

const concatenated: FollowRule = (node, follower) => {
  const { input, output } = node;
  const axis = wrapAxis(intAttribute(node, 'axis', 0), follower.shapeOf(input[0]!).length);
  const along = input.map((name) => follower.track(name)).find((track) => track !== undefined)?.axis;
  if (along === undefined || input.some((name) => follower.constant(name) !== undefined)) {
    return follower.stop(node, 'appends numbers that no layer makes');
  }
  const [first, ...others] = input.map((name) => follower.channelsOf(name, along, node));
  if (along === axis) return follower.setTrack(output[0]!, { axis, channels: [first!, ...others].flat() });
  for (const other of others) follower.sets.uniteAll(first!, other);
  follower.setTrack(output[0]!, { axis: along, channels: first! });
};

/** Where the numbers keep their order and only the axes change. */
const reshaped: FollowRule = (node, follower) => {
  const track = follower.track(node.input[0]!);
  if (track === undefined) return;
  const output = node.output[0]!;
  const shape = follower.shapeOf(output);
  const moved = movedTrack(track, follower.shapeOf(node.input[0]!), shape);
  if (moved === undefined) return follower.stop(node, 'splits the channels, or lays them out anew');
  follower.setTrack(output, moved);
  if (node.opType === 'Reshape') follower.resizings.push({ node, shape, ...moved });
};

/**
 * The track in another shape with the same numbers in the same order. Axes before the channels may be merged with them, and axes behind
 * them too: each place of the new axis then belongs to the channel that its number came from.
 */
export function movedTrack({ axis, channels }: Track, from: Shape, to: Shape): Track | undefined {
  const [outer, inner] = [sizeOf(from.slice(0, axis)), sizeOf(from.slice(axis + 1))];
  const fits = (at: number): { before: number; behind: number } | undefined => {
    const [outerTo, innerTo] = [sizeOf(to.slice(0, at)), sizeOf(to.slice(at + 1))];
    const [before, behind] = [outer / outerTo, inner / innerTo];
    const isWhole = Number.isInteger(before) && Number.isInteger(behind);
    return isWhole && to[at] === before * channels.length * behind ? { before, behind } : undefined;
  };
  const places = to.flatMap((size, at) => {
    const found = fits(at);
    return found === undefined ? [] : [{ at, size, ...found }];
  });
  // Axes of size one fit in several places; the one that keeps the channels by themselves is meant.
  const best = places.find(({ before, behind }) => before === 1 && behind === 1) ?? places[0];
  if (best === undefined) return undefined;
  const { at, size, behind } = best;
  return {
    axis: at,
    channels: Array.from({ length: size }, (_, place) => channels[Math.floor(place / behind) % channels.length]!),
  };
}

const transposed: FollowRule = (node, follower) => {
  const [x] = node.input as [string];
  const output = node.output[0]!;
  const perm = permutationOf(node, follower.shapeOf(x).length);
  const constant = follower.constant(x);
  if (constant !== undefined) {
    const { tensor, shape, axes } = constant;
    follower.setConstant(output, { tensor, shape: perm.map((at) => shape[at]!), axes: perm.map((at) => axes[at]!) });
  }
  const track = follower.track(x);
  if (track !== undefined) follower.setTrack(output, { ...track, axis: perm.indexOf(track.axis) });
};

const identical: FollowRule = (node, follower) => {
  const constant = follower.constant(node.input[0]!);
  if (constant !== undefined) follower.setConstant(node.output[0]!, constant);
  passed(node, follower);
};

const reduced: FollowRule = (node, follower) => {
  const track = follower.track(node.input[0]!);
  if (track === undefined) return;
  const rank = follower.shapeOf(node.input[0]!).length;
  const listed = intsAttribute(node, 'axes') ?? follower.integersOf(node.input[1] ?? '') ?? [];
  const all = Array.from({ length: rank }, (_, axis) => axis);
  const axes = listed.length === 0 ? all : listed.map((axis) => wrapAxis(axis, rank));
  if (axes.includes(track.axis)) return follower.stop(node, 'adds up over the channels');
  const gone = intAttribute(node, 'keepdims', 1) === 1 ? 0 : axes.filter((axis) => axis < track.axis).length;
  follower.setTrack(node.output[0]!, { ...track, axis: track.axis - gone });
};

const softmax: FollowRule = (node, follower) => {
  const track = follower.track(node.input[0]!);
  const rank = follower.shapeOf(node.input[0]!).length;
  if (track?.axis === wrapAxis(intAttribute(node, 'axis', -1), rank))
    return follower.stop(node, 'shares out over the channels');
  passed(node, follower);
};

const layerNorm: FollowRule = (node, follower) => {
  const track = follower.track(node.input[0]!);
  const rank = follower.shapeOf(node.input[0]!).length;
  if (track === undefined || track.axis >= wrapAxis(intAttribute(node, 'axis', -1), rank)) {
    return follower.stop(node, 'normalises over the channels');
  }
  follower.stop({ ...node, input: node.input.slice(1) }, 'normalises over the channels');
  passed(node, follower);
};

/** Only the first axis of a table is looked up in, so its vectors are channels. */
const gathered: FollowRule = (node, follower) => {
  const [table, places] = node.input as [string, string];
  const constant = follower.constant(table);
  const axis = wrapAxis(intAttribute(node, 'axis', 0), follower.shapeOf(table).length);
  const rank = follower.shapeOf(places).length;
  if (constant !== undefined && constant.shape.length === 2 && axis === 0) {
    follower.cut(constant, 0, follower.sets.fresh(constant.shape[0]!, untracked(node)));
    follower.setTrack(node.output[0]!, { axis: rank, channels: follower.make(node, constant, 1) });
    return;
  }
  const track = follower.track(table);
  if (track === undefined || track.axis === axis) return follower.stop(node, 'picks channels');
  follower.setTrack(node.output[0]!, { ...track, axis: track.axis < axis ? track.axis : track.axis - 1 + rank });
};

const sliced: FollowRule = (node, follower) => {
  const track = follower.track(node.input[0]!);
  if (track === undefined) return;
  const [before, after] = [follower.shapeOf(node.input[0]!), follower.shapeOf(node.output[0]!)];
  if (before[track.axis] !== after[track.axis]) return follower.stop(node, 'picks channels');
  follower.setTrack(node.output[0]!, track);
};

const split: FollowRule = (node, follower) => {
  const track = follower.track(node.input[0]!);
  if (track === undefined) return;
  const rank = follower.shapeOf(node.input[0]!).length;
  if (wrapAxis(intAttribute(node, 'axis', 0), rank) === track.axis) return follower.stop(node, 'splits the channels');
  for (const name of node.output) if (name !== '') follower.setTrack(name, track);
};

/** A list of sizes: where nobody reads how many channels there are, nothing changes. */
const described: FollowRule = (node, follower) => {
  const track = follower.track(node.input[0]!);
  if (track === undefined) return;
  const rank = follower.shapeOf(node.input[0]!).length;
  const at = track.axis - wrapAxis(intAttribute(node, 'start', 0), rank);
  const output = node.output[0]!;
  const isListed = at >= 0 && at < (follower.shapeOf(output)[0] ?? 1);
  const isRead = follower.readersOf(output).some((reader) => readsEntry(reader, output, at, follower));
  if (node.opType === 'Size' || (isListed && isRead)) follower.stop(node, 'is asked how many channels there are');
};

/** Whether a reader of a list looks at this entry. Only what surely does not is let pass. */
function readsEntry(reader: NodeProto, list: string, at: number, follower: Follower): boolean {
  const length = follower.shapeOf(list)[0] ?? 1;
  const entries = (position: number): number[] | undefined =>
    follower.integersOf(reader.input[position] ?? '')?.map((entry) => wrapAxis(entry, length));
  if (reader.opType === 'Gather') return entries(1)?.includes(at) ?? true;
  if (reader.opType !== 'Slice') return true;
  const [start, end] = [entries(1)?.[0], follower.integersOf(reader.input[2] ?? '')?.[0]];
  const step = reader.input.length > 4 ? follower.integersOf(reader.input[4] ?? '')?.[0] : 1;
  if (start === undefined || end === undefined || step !== 1) return true;
  return at >= start && at < Math.min(wrapAxis(end, length), length);
}

/** Sizes as they are to be would name the channels; scales do not. */
const resized: FollowRule = (node, follower) => {
  if ((node.input[3] ?? '') === '') sliced(node, follower);
  else follower.stop(node, 'names the sizes that it makes');
};

const unary = [
  'Relu',
  'LeakyRelu',
  'Sigmoid',
  'Tanh',
  'Elu',
  'Selu',
  'Celu',
  'Gelu',
  'QuickGelu',
  'FastGelu',
  'Mish',
  'HardSigmoid',
  'HardSwish',
  'ThresholdedRelu',
  'Softplus',
  'Softsign',
  'Clip',
  'Exp',
  'Log',
  'Sqrt',
  'Abs',
  'Neg',
  'Reciprocal',
  'Erf',
  'Sin',
  'Cos',
  'Sign',
  'Floor',
  'Ceil',
  'Round',
  'Cast',
  'Dropout',
  'Not',
];
const binary = [
  'Add',
  'Sub',
  'Mul',
  'Div',
  'Pow',
  'Min',
  'Max',
  'Sum',
  'Mean',
  'PRelu',
  'Where',
  'Greater',
  'Less',
  'Equal',
  'GreaterOrEqual',
  'LessOrEqual',
  'And',
  'Or',
];
const windows = ['MaxPool', 'AveragePool', 'GlobalAveragePool', 'GlobalMaxPool', 'LpPool'];
const reductions = ['Sum', 'Mean', 'Max', 'Min', 'Prod', 'L1', 'L2', 'SumSquare', 'LogSum', 'LogSumExp'].map(
  (name) => `Reduce${name}`,
);

const each = (names: readonly string[], rule: FollowRule): Record<string, FollowRule> =>
  Object.fromEntries(names.map((name) => [name, rule]));

/** One row per operator that channels are followed through; at any other they have to stay. */
export const followRules: Readonly<Record<string, FollowRule>> = {
  ...each(unary, passed),
  ...each(binary, together),
  ...each(windows, spatial),
  ...each(reductions, reduced),
  Identity: identical,
  Conv: convolved,
  ConvTranspose: transposedConvolved,
  Gemm: gemm,
  MatMul: matrixProduct,
  BatchNormalization: normalised,
  InstanceNormalization: normalised,
  LayerNormalization: layerNorm,
  Concat: concatenated,
  Flatten: reshaped,
  Reshape: reshaped,
  Squeeze: reshaped,
  Unsqueeze: reshaped,
  Transpose: transposed,
  Softmax: softmax,
  LogSoftmax: softmax,
  Gather: gathered,
  Slice: sliced,
  Pad: sliced,
  Resize: resized,
  Split: split,
  Shape: described,
  Size: described,
};
