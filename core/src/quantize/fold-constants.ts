import { readConstant, widthOf, writeConstant } from '../onnx/constants/constant.ts';
import type { Constant } from '../onnx/constants/constant.ts';
import { foldNode } from '../onnx/constants/fold-node.ts';
import { OnnxError } from '../onnx/errors.ts';
import type { GraphProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import { findAttribute } from '../onnx/nodes.ts';
import type { ValueType } from '../onnx/shape-rule.ts';
import { inferTypes } from '../onnx/shapes.ts';
import { dimsOf, isEmptyShell } from '../onnx/tensor-data.ts';
import { sameShape, sizeOf } from '../tensor/shape.ts';
import { GraphView, isStandard } from './graph-view.ts';
import { isFollowed, OPEN_SIZES, risesWith } from './open-sizes.ts';

/** Bytes by which one folded node may make the model grow: a table that a few numbers describe stays a computation. */
export const FOLDED_BYTES_MAX: number = 1024 * 1024;

const { BOOL, FLOAT, INT32, INT64 } = TensorProto_DataType;

/** Nodes that depend on constants, or on shapes that are known, alone become initializers. */
export function foldConstants(graph: GraphProto): { graph: GraphProto; folded: number } {
  const folding = new Folding(graph);
  const node = graph.node.filter((one) => !folding.fold(one));
  return {
    graph: { ...graph, node, initializer: [...graph.initializer, ...folding.made] },
    folded: folding.made.length,
  };
}

/** What is known of a value before the model runs. */
interface Known {
  /** Under each of the open sizes. */
  types: readonly ValueType[];
  /** Its numbers: none, one where they do not depend on the open sizes, or one under each. Read when they are needed. */
  numbers: readonly (() => Constant | undefined)[];
}

/** An input that a node does without. */
const left: Known = { types: OPEN_SIZES.map(() => ({ shape: [], elemType: 0 })), numbers: [() => undefined] };

class Folding {
  readonly made: TensorProto[] = [];
  readonly #view: GraphView;
  readonly #known: Map<string, Known> = new Map();

  constructor(graph: GraphProto) {
    this.#view = new GraphView(graph);
    for (const { name, type } of graph.input) {
      const tensor = type?.value.case === 'tensorType' ? type.value.value : undefined;
      if (tensor?.shape === undefined) continue;
      const { dim } = tensor.shape;
      const types = OPEN_SIZES.map((open) => ({
        shape: dim.map(({ value }) => (value.case === 'dimValue' ? Number(value.value) : open)),
        elemType: tensor.elemType,
      }));
      this.#known.set(name, { types, numbers: [] });
    }
    for (const tensor of graph.initializer) this.#known.set(tensor.name, knownConstant(tensor));
  }

  /** Whether the node has become an initializer. */
  fold(node: NodeProto): boolean {
    const inputs = node.input.map((name) => (name === '' ? left : this.#known.get(name)));
    if (!isReadable(node) || inputs.some((input) => input === undefined)) return false;
    const found = this.#follow(node, inputs as Known[]);
    if (found === undefined) return false;
    const [output = '', ...others] = node.output;
    node.output.forEach((name, position) => {
      const types = found.map(({ types: all }) => all[position] ?? all[0]!);
      if (name !== '') this.#known.set(name, { types, numbers: [] });
    });
    const constants = found.flatMap(({ constant }) => constant ?? []);
    const [first] = constants;
    if (first === undefined || constants.length < found.length) return false;
    const isFixed = constants.every((one) => isSame(one, first));
    if (!isFixed && !isFollowed(constants)) return false;
    const numbers = (isFixed ? [first] : constants).map((one) => () => one);
    this.#known.set(output, { types: this.#known.get(output)!.types, numbers });
    if (!isFixed || others.some((name) => name !== '') || this.#view.outputs.has(output)) return false;
    this.made.push(writeConstant(output, first));
    return true;
  }

  /** Types of the outputs, and the numbers of the first where they are known, under each of the open sizes. */
  #follow(
    node: NodeProto,
    inputs: readonly Known[],
  ): { types: readonly ValueType[]; constant: Constant | undefined }[] | undefined {
    const isSizes = isStandard(node, 'Shape', 'Size');
    const isComputed = isSizes || inputs.every(({ numbers }) => numbers.length > 0);
    const isFixed = !isSizes && inputs.every(({ numbers }) => numbers.length === 1);
    const underOpenSize = (index: number): { types: readonly ValueType[]; constant: Constant | undefined } => {
      const constant = (position: number): Constant | undefined => {
        const { numbers } = inputs[position] ?? left;
        if (numbers.length < 2) return numbers[0]?.();
        return risesWith(node, position) ? numbers[index]!() : undefined;
      };
      const site = {
        node,
        inputs: inputs.map(({ types }) => types[index]!),
        integers: (position: number) => listOf(constant(position), INT64, INT32, BOOL),
        floats: (position: number) => listOf(constant(position), FLOAT),
      };
      const types = inferTypes(site);
      if (!isComputed) return { types, constant: undefined };
      const output = types[0]!;
      const lengthMax = this.#bytesMax(node) / (widthOf(output.elemType) ?? 1);
      return { types, constant: foldNode({ ...site, output, constant }, lengthMax) };
    };
    try {
      // What does not depend on the open sizes is computed once.
      const first = underOpenSize(0);
      const found = OPEN_SIZES.map((_, index) => (isFixed || index === 0 ? first : underOpenSize(index)));
      const ranks = found.map(({ types }) => types.map(({ shape }) => shape.length).join());
      return ranks.every((rank) => rank === ranks[0]) ? found : undefined;
    } catch (cause) {
      // An operator without a rule, or one that does not take the least or the greatest size: what comes of it is not known.
      if (cause instanceof OnnxError) return undefined;
      throw cause;
    }
  }

  /** A result may be as large as the constants in whose place it comes, and a little larger. */
  #bytesMax(node: NodeProto): number {
    const replaced = node.input.map((name) => {
      const tensor = this.#view.soleReader(name) === node ? this.#view.constants.get(name) : undefined;
      return tensor === undefined ? 0 : (widthOf(tensor.dataType) ?? 0) * sizeOf(dimsOf(tensor));
    });
    return replaced.reduce((sum, bytes) => sum + bytes, FOLDED_BYTES_MAX);
  }
}

/** Whether the shape rules, which are those of operator set 17, read the node as it is meant. */
function isReadable(node: NodeProto): boolean {
  if (!isStandard(node, node.opType)) return false;
  return node.opType !== 'Resize' || ['axes', 'keep_aspect_ratio_policy'].every((name) => !findAttribute(node, name));
}

function knownConstant(tensor: TensorProto): Known {
  const type = { shape: dimsOf(tensor), elemType: tensor.dataType };
  const types = OPEN_SIZES.map(() => type);
  if (isEmptyShell(tensor) || widthOf(tensor.dataType) === undefined) return { types, numbers: [] };
  let constant: Constant | undefined;
  // Weights that nothing is folded of are never read.
  return { types, numbers: [() => (constant ??= readConstant(tensor))] };
}

function isSame(a: Constant, b: Constant): boolean {
  if (a === b) return true;
  return (
    sameShape(a.shape, b.shape) && a.data.every((number: number | bigint, at: number) => Object.is(number, b.data[at]))
  );
}

function listOf(constant: Constant | undefined, ...types: readonly number[]): readonly number[] | undefined {
  return constant !== undefined && types.includes(constant.elemType) ? Array.from(constant.data, Number) : undefined;
}
