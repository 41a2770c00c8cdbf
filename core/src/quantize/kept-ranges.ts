import { OnnxError } from '../onnx/errors.ts';
import { graphOf } from '../onnx/file.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { noteOf, trainedNames, trainingOnly, withNote } from '../onnx/metadata.ts';
import { makeNode } from '../onnx/nodes.ts';
import { layoutOf } from '../onnx/parameters.ts';
import { floatTensor, floatValues } from '../onnx/tensor-data.ts';
import type { Range } from './affine.ts';
import { calibrationGraph } from './calibration.ts';

/** The note that says which tensor keeps the range of which value. */
const key = 'commonweight.ranges';

/** A tensor of two numbers, and the value whose range it keeps. */
export interface KeptRange {
  tensor: string;
  value: string;
}

/**
 * The model with a tensor for the range of each value that the static int8 form rounds. They are parameters as any other: training with
 * `quantizationAware` moves them, updates ship them and every version has its own. Nothing reads them when the model is served, so it answers
 * as before, bit for bit. What `ranges` does not say begins empty.
 */
export function addRanges(model: ModelProto, ranges: ReadonlyMap<string, Range> = new Map()): ModelProto {
  if (noteOf(model, key) !== undefined) throw new OnnxError('the model keeps ranges already');
  const { values } = calibrationGraph(model);
  const kept = values.map((value): KeptRange => ({ value, tensor: `${value}/range` }));
  const graph = graphOf(model);
  const taken = new Set([...graph.initializer.map(({ name }) => name), ...graph.node.flatMap(({ output }) => output)]);
  const clash = kept.find(({ tensor }) => taken.has(tensor));
  if (clash !== undefined) throw new OnnxError(`the model has a value '${clash.tensor}' already; rename it`);
  const changed: ModelProto = {
    ...model,
    graph: {
      ...graph,
      // Behind all others: their changes are of another size, and an update's blocks share an exponent.
      initializer: [
        ...graph.initializer,
        ...kept.map(({ tensor, value }) => floatTensor(tensor, [2], coded(ranges.get(value)))),
      ],
      node: [...graph.node, ...kept.map(({ tensor }) => makeNode('Identity', [tensor], [`${tensor}/kept`]))],
    },
  };
  const noted = withNote(changed, key, kept);
  const trained = trainedNames(model);
  return trained === undefined ? noted : trainingOnly(noted, [...trained, ...kept.map(({ tensor }) => tensor)]);
}

/** The tensors of a model that keep ranges; none where it was not made so. */
export function keptRanges(model: ModelProto): KeptRange[] {
  const note = noteOf(model, key);
  if (note === undefined) return [];
  const isKept = (one: Partial<KeptRange> | null): boolean =>
    typeof one?.tensor === 'string' && typeof one.value === 'string';
  if (Array.isArray(note) && note.every(isKept)) return note as KeptRange[];
  throw new OnnxError(`the model's note '${key}' is no list of ranges; make the file again`);
}

/** The ranges that a whole model keeps, by value; undefined where it keeps none, or where training never filled one. */
export function rangesIn(model: ModelProto): Map<string, Range> | undefined {
  const kept = keptRanges(model);
  if (kept.length === 0) return undefined;
  const tensors = new Map(graphOf(model).initializer.map((tensor) => [tensor.name, tensor]));
  const ranges = new Map<string, Range>();
  for (const { tensor, value } of kept) {
    const stored = tensors.get(tensor);
    const [below = 0, above = 0] = stored === undefined ? [] : floatValues(stored);
    const range = { min: below > 0 ? 1 - 2 ** below : 0, max: above > 0 ? 2 ** above - 1 : 0 };
    if (range.min === range.max) return undefined;
    ranges.set(value, range);
  }
  return ranges;
}

/** The same of a version in its two parts. */
export function keptRangesOf(graph: ModelProto, weights: Float32Array): Map<string, Range> | undefined {
  const tensors = new Set(keptRanges(graph).map(({ tensor }) => tensor));
  if (tensors.size === 0) return undefined;
  const specs = layoutOf(graph).parameters.filter(({ name }) => tensors.has(name));
  const filled = new Map(
    specs.map(({ name, shape, offset, length }) => [
      name,
      floatTensor(name, shape, weights.slice(offset, offset + length)),
    ]),
  );
  const own = graphOf(graph);
  const initializer = own.initializer.map((tensor) => filled.get(tensor.name) ?? tensor);
  return rangesIn({ ...graph, graph: { ...own, initializer } });
}

/**
 * A range is kept as log2(1 + size) of either side of zero: sizes of any magnitude are a few units from each other, so that an update of
 * them fits the grid of all others, and the mean of several devices is a geometric one. Zero is always in range.
 */
function coded(range: Range | undefined): Float32Array {
  const { min, max } = range ?? { min: 0, max: 0 };
  return Float32Array.of(Math.log2(1 + Math.max(0, -min)), Math.log2(1 + Math.max(0, max)));
}
