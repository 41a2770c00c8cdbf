import {
  dimsOf,
  floatValues,
  integerValues,
  type GraphBuilder,
  type NodeProto,
  type TensorProto,
} from '@commonweight/core';
import { EngineError } from '../../engine.ts';
import { TYPES, type Tensor, type TfLibrary } from './operator.ts';
import { operators } from './operators.ts';

/** ONNX's numbers of element types whose constants are not read as whole numbers. */
const [FLOAT, BOOL] = [1, 9];

/** Whole numbers of less than 32 bits, by ONNX's numbers of element types. */
const SMALL: Readonly<Record<number, new (buffer: ArrayBuffer) => Iterable<number>>> = {
  2: Uint8Array,
  3: Int8Array,
  5: Int16Array,
  [BOOL]: Uint8Array,
};

export type Scope = Map<string, Tensor>;

/** A graph of known shapes in TensorFlow.js: its constants, and its nodes, computed one by one. */
export class TfjsGraph {
  /** Those that are computed: integers that follow from shapes are known already. */
  readonly nodes: readonly NodeProto[];
  readonly constants: ReadonlyMap<string, Tensor>;
  readonly #tf: TfLibrary;
  readonly #graph: GraphBuilder;
  /** What this graph alone holds. */
  readonly #own: Tensor[] = [];

  /** Throws EngineError where an operator is not there. `shared` are constants that other graphs hold as well; who made them lets go of them. */
  constructor(tf: TfLibrary, graph: GraphBuilder, shared: ReadonlyMap<TensorProto, Tensor> = new Map()) {
    this.#tf = tf;
    this.#graph = graph;
    this.nodes = graph.nodes.filter((node) => !this.#isConstant(node));
    const missing = this.nodes.find(({ opType }) => !Object.hasOwn(operators, opType));
    if (missing !== undefined) {
      throw new EngineError(`tfjs has no operator ${missing.opType} (node '${missing.name}'); ort-cpu has`);
    }
    const constants: Scope = new Map();
    for (const tensor of graph.initializers) {
      constants.set(tensor.name, shared.get(tensor) ?? this.#owned(constantIn(tf, tensor)));
    }
    for (const node of graph.nodes) {
      const numbers = this.#isConstant(node) ? graph.constantIntegers(node.output[0]!) : undefined;
      if (numbers === undefined) continue;
      const [name] = node.output;
      const { shape, elemType } = graph.typeOf(name!);
      const dtype = elemType === BOOL ? 'bool' : 'int32';
      constants.set(name!, this.#owned(tf.tensor([...numbers], [...shape], dtype)));
    }
    this.constants = constants;
  }

  /** Adds what the nodes make to the values that there are. */
  compute(nodes: readonly NodeProto[], scope: Scope): void {
    for (const node of nodes) {
      const inputs = node.input.map((name) => (name === '' ? undefined : scope.get(name)));
      const result = operators[node.opType]!({ tf: this.#tf, node, graph: this.#graph, inputs });
      const tensors = Array.isArray(result) ? result : [result];
      for (const [index, name] of node.output.entries()) {
        const tensor = tensors[index];
        if (name !== '' && tensor !== undefined) scope.set(name, tensor);
      }
    }
  }

  release(): void {
    for (const tensor of this.#own.splice(0)) tensor.dispose();
  }

  #owned(tensor: Tensor): Tensor {
    this.#own.push(this.#tf.keep(tensor));
    return tensor;
  }

  #isConstant({ output, input }: NodeProto): boolean {
    return input.length > 0 && this.#graph.constantIntegers(output[0]!) !== undefined;
  }
}

/** A constant of a model. Throws EngineError where TensorFlow.js has no such numbers. */
export function constantIn(tf: TfLibrary, tensor: TensorProto): Tensor {
  const shape = dimsOf(tensor);
  if (tensor.dataType === FLOAT) return tf.keep(tf.tensor(floatValues(tensor), shape, 'float32'));
  const type = TYPES[tensor.dataType];
  if (type === undefined) {
    throw new EngineError(`tfjs has no numbers of element type ${tensor.dataType} ('${tensor.name}'); ort-cpu has`);
  }
  return tf.keep(tf.tensor(wholesIn(tensor).map(within32), shape, type));
}

function wholesIn(tensor: TensorProto): number[] {
  const array = SMALL[tensor.dataType];
  if (array === undefined || tensor.rawData.length === 0) return integerValues(tensor);
  return [...new array(tensor.rawData.slice().buffer)];
}

/** "To the end" is the largest number of 64 bits, and here that of 32. */
const within32 = (number: number): number => Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, number));
