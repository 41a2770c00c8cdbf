import { findAttribute, intAttribute, stringAttribute } from '../../onnx/nodes.ts';
import type { NodeProto } from '../../onnx/gen/onnx/onnx_pb.ts';
import { OnnxError } from '../../onnx/errors.ts';
import type { GraphBuilder } from '../../onnx/graph-builder.ts';
import { hasInput } from '../../onnx/shape-rule.ts';
import { refuse, reshapeTo, transpose, zeros } from '../rule.ts';
import type { Rewrite, RewriteTable } from './rewrite.ts';

/** Longer sequences would make a graph of too many nodes. */
const stepsMax = 1024;

/** Weights of one direction, and one step of it. */
interface Weights {
  /** [gates·hidden, hidden] */
  recurrent: string;
  /** Biases of the input's and of the state's product, each [gates·hidden]; undefined where there are none. */
  biases: readonly [string, string] | undefined;
  hidden: number;
  node: NodeProto;
}

interface State {
  h: string;
  c?: string;
}

/** `x` is the input's product [batch, gates·hidden]. */
type Step = (x: string, state: State) => State;

interface Cell {
  gates: number;
  activations: readonly string[];
  /** The bias that is added to the input's product at once. */
  inputBias(graph: GraphBuilder, weights: Weights): string | undefined;
  /** Answers how one step is written. */
  begin(graph: GraphBuilder, weights: Weights): Step;
}

const bothBiases = (graph: GraphBuilder, { biases }: Weights): string | undefined =>
  biases === undefined ? undefined : graph.emit('Add', [...biases]);

/** Hochreiter and Schmidhuber 1997, in ONNX's order of gates: input, output, forget, cell. */
const lstm: Cell = {
  gates: 4,
  activations: ['Sigmoid', 'Tanh', 'Tanh'],
  inputBias: bothBiases,
  begin:
    (graph, { recurrent }) =>
    (x, { h, c }) => {
      const all = graph.emit('Gemm', [h, recurrent, x], { transB: 1 });
      const [input, output, forget, cell] = pieces(graph, all, 4, 1) as [string, string, string, string];
      const gate = (value: string): string => graph.emit('Sigmoid', [value]);
      const kept = graph.emit('Mul', [gate(forget), c!]);
      const added = graph.emit('Mul', [gate(input), graph.emit('Tanh', [cell])]);
      const next = graph.emit('Add', [kept, added]);
      return { h: graph.emit('Mul', [gate(output), graph.emit('Tanh', [next])]), c: next };
    },
};

/** Cho et al. 2014, in ONNX's order of gates: update, reset, hidden. */
const gru: Cell = {
  gates: 3,
  activations: ['Sigmoid', 'Tanh'],
  inputBias: (graph, weights) => (resetsLate(weights) ? weights.biases?.[0] : bothBiases(graph, weights)),
  begin: (graph, weights) => {
    const { recurrent, biases, hidden } = weights;
    const isLate = resetsLate(weights);
    const sizes = graph.integers([2 * hidden, hidden]);
    const [gateWeights, newWeights] = split(graph, recurrent, sizes, 0, 2) as [string, string];
    const [gateBias, newBias] = isLate && biases !== undefined ? split(graph, biases[1], sizes, 0, 2) : [];
    return (x, { h }) => {
      const [xGates, xNew] = split(graph, x, sizes, 1, 2) as [string, string];
      const xBiased = gateBias === undefined ? xGates : graph.emit('Add', [xGates, gateBias]);
      const gates = graph.emit('Sigmoid', [graph.emit('Gemm', [h, gateWeights, xBiased], { transB: 1 })]);
      const [update, reset] = pieces(graph, gates, 2, 1) as [string, string];
      const product = (state: string): string =>
        graph.emit('Gemm', [state, newWeights, ...(newBias === undefined ? [] : [newBias])], { transB: 1 });
      const fromState = isLate ? graph.emit('Mul', [reset, product(h)]) : product(graph.emit('Mul', [reset, h]));
      const fresh = graph.emit('Tanh', [graph.emit('Add', [xNew, fromState])]);
      // (1 − z)·fresh + z·h
      const pull = graph.emit('Mul', [update, graph.emit('Sub', [h, fresh])]);
      return { h: graph.emit('Add', [fresh, pull]) };
    };
  },
};

/** Elman 1990. */
const rnn: Cell = {
  gates: 1,
  activations: ['Tanh'],
  inputBias: bothBiases,
  begin:
    (graph, { recurrent }) =>
    (x, { h }) => ({ h: graph.emit('Tanh', [graph.emit('Gemm', [h, recurrent, x], { transB: 1 })]) }),
};

const resetsLate = ({ node }: Weights): boolean => intAttribute(node, 'linear_before_reset', 0) === 1;

/** Recurrent layers, unrolled: every step of the sequence is written out. */
export const recurrent: RewriteTable = { LSTM: unrolled(lstm), GRU: unrolled(gru), RNN: unrolled(rnn) };

function unrolled(cell: Cell): Rewrite {
  return (graph, node) => {
    requirePlain(node, cell);
    const batchFirst = intAttribute(node, 'layout', 0) === 1;
    const turn = (value: string): string => (batchFirst ? transpose(graph, value, [1, 0, 2]) : value);
    const x = turn(node.input[0]!);
    const [steps] = graph.shapeOf(x) as [number];
    if (steps > stepsMax)
      refuse(node, `has ${steps} steps, and at most ${stepsMax} are unrolled; shorten the sequence`);
    const direction = stringAttribute(node, 'direction', 'forward');
    const backwards = direction === 'bidirectional' ? [false, true] : [direction === 'reverse'];
    const starts = [5, 6].map((position) => (hasInput(node, position) ? turn(node.input[position]!) : undefined));
    const runs = backwards.map((isBackward, index) =>
      runDirection(graph, node, cell, { x, isBackward, index, directions: backwards.length, starts }),
    );
    writeOutputs(graph, node, runs, batchFirst);
  };
}

interface Direction {
  x: string;
  isBackward: boolean;
  index: number;
  directions: number;
  /** h and c at the start, [directions, batch, hidden]. */
  starts: readonly (string | undefined)[];
}

/** States after each step, in the order of the sequence, and the last one reached. */
interface Run {
  all: State[];
  last: State;
}

function runDirection(
  graph: GraphBuilder,
  node: NodeProto,
  cell: Cell,
  { x, isBackward, index, directions, starts }: Direction,
): Run {
  const [steps, batch, width] = graph.shapeOf(x) as [number, number, number];
  const pick = (value: string): string => {
    const [, ...shape] = graph.shapeOf(value);
    return reshapeTo(graph, directions === 1 ? value : pieces(graph, value, directions, 0)[index]!, shape);
  };
  const ofState = pick(node.input[2]!);
  const hidden = graph.shapeOf(ofState)[1]!;
  const biases = hasInput(node, 3) ? (pieces(graph, pick(node.input[3]!), 2, 0) as [string, string]) : undefined;
  const weights: Weights = { recurrent: ofState, biases, hidden, node };
  const bias = cell.inputBias(graph, weights);
  // One product over all steps at once.
  const flat = reshapeTo(graph, x, [steps * batch, width]);
  const product = graph.emit('Gemm', [flat, pick(node.input[1]!), ...(bias === undefined ? [] : [bias])], {
    transB: 1,
  });
  const inputs = pieces(graph, product, steps, 0);
  const start = (value: string | undefined): string =>
    value === undefined ? zeros(graph, [batch, hidden]) : pick(value);
  const step = cell.begin(graph, weights);
  let state: State = { h: start(starts[0]), c: start(starts[1]) };
  const all = Array.from({ length: steps }, () => state);
  for (let done = 0; done < steps; done++) {
    const at = isBackward ? steps - 1 - done : done;
    all[at] = state = step(inputs[at]!, state);
  }
  return { all, last: state };
}

/** Y [steps, directions, batch, hidden] and the last states [directions, batch, hidden]; the batch comes first with layout 1. */
function writeOutputs(graph: GraphBuilder, node: NodeProto, runs: readonly Run[], batchFirst: boolean): void {
  const [steps, directions] = [runs[0]!.all.length, runs.length];
  const [batch, hidden] = graph.shapeOf(runs[0]!.last.h) as [number, number];
  const write = (
    position: number,
    values: readonly string[],
    shape: readonly number[],
    perm: readonly number[],
  ): void => {
    const name = node.output[position] ?? '';
    if (name === '') return;
    const joined = values.length === 1 ? values[0]! : graph.emit('Concat', values, { axis: 0 });
    const stacked = graph.emit('Reshape', [joined, graph.integers(shape)], {}, batchFirst ? undefined : name);
    if (batchFirst) graph.emit('Transpose', [stacked], { perm }, name);
  };
  const inOrder = Array.from({ length: steps }, (_, step) => runs.map(({ all }) => all[step]!.h)).flat();
  write(0, inOrder, [steps, directions, batch, hidden], [2, 0, 1, 3]);
  for (const [position, key] of [
    [1, 'h'],
    [2, 'c'],
  ] as const) {
    write(
      position,
      runs.map(({ last }) => last[key]!),
      [directions, batch, hidden],
      [1, 0, 2],
    );
  }
}

function pieces(graph: GraphBuilder, value: string, count: number, axis: number): string[] {
  const shape = graph.shapeOf(value);
  const size = shape[axis]! / count;
  if (!Number.isInteger(size)) {
    throw new OnnxError(`a recurrent layer's tensor [${shape.join()}] is not of ${count} parts; mend the model`);
  }
  return split(graph, value, graph.integers(Array.from({ length: count }, () => size)), axis, count);
}

function requirePlain(node: NodeProto, { activations }: Cell): void {
  const given = findAttribute(node, 'activations')?.strings.map((name) => String.fromCharCode(...name)) ?? [];
  const isUsual = given.every((name, index) => name === activations[index % activations.length]);
  if (!isUsual) refuse(node, `has activations ${given.join(', ')}; training reads ${activations.join(', ')}`);
  if (hasInput(node, 4)) refuse(node, 'takes lengths of sequences; pad them to one length and leave the input out');
  if (hasInput(node, 7)) refuse(node, 'has peepholes; export the layer without them');
  if (findAttribute(node, 'clip') !== undefined) refuse(node, 'clips its gates; export the layer without clip');
  if (intAttribute(node, 'input_forget', 0) === 1) refuse(node, 'couples its gates; export it without input_forget');
}

function split(graph: GraphBuilder, value: string, sizes: string, axis: number, count: number): string[] {
  return graph.emitAll('Split', [value, sizes], count, { axis });
}
