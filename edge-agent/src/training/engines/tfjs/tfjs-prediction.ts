import { elementKind, zeros, type Session, type TypedTensor } from '@commonweight/client-sdk';
import {
  contractOf,
  OnnxError,
  openPrediction,
  readModel,
  type ModelContract,
  type ModelProto,
  type TensorProto,
  type TensorSpec,
} from '@commonweight/core';
import { EngineError } from '../../engine.ts';
import type { Tensor, TfLibrary } from './operator.ts';
import { isQuantizedOperator } from './quantized.ts';
import { tensorOf } from './tensor-of.ts';
import { constantIn, TfjsGraph, type Scope } from './tfjs-graph.ts';

/** Shapes of inputs that a graph is kept for: as many as a serving endpoint makes batches of by default. They share the weights. */
const GRAPHS_MAX = 32;
/** Element types, in a contract's words, that inputs and outputs may be of. */
const DTYPES: readonly string[] = ['float', 'bool', 'int8', 'int16', 'int32', 'int64', 'uint8'];

/** A model that TensorFlow.js answers by: a graph for each shape of its inputs, made when that comes. */
export class TfjsPrediction implements Session {
  readonly #tf: TfLibrary;
  readonly #model: ModelProto;
  readonly #contract: ModelContract;
  readonly #weights = new Map<TensorProto, Tensor>();
  /** The one that was used last comes last. */
  readonly #graphs = new Map<string, TfjsGraph>();

  /** Throws EngineError where the model cannot be computed so: it is tried on zeros, since some operators say only then what they lack. */
  constructor(tf: TfLibrary, onnx: Uint8Array) {
    this.#tf = tf;
    this.#model = readModel(onnx);
    this.#contract = contractOf(this.#model);
    requireComputable(this.#model, this.#contract);
    try {
      for (const tensor of this.#model.graph!.initializer) this.#weights.set(tensor, constantIn(tf, tensor));
      this.#computed(Object.fromEntries(this.#contract.inputs.map((input) => [input.name, zerosOf(input)])));
    } catch (error) {
      this.#letGo();
      throw error;
    }
  }

  run(feeds: Record<string, TypedTensor>): Promise<Record<string, TypedTensor>> {
    return Promise.resolve().then(() => this.#computed(feeds));
  }

  release(): Promise<void> {
    this.#letGo();
    return Promise.resolve();
  }

  #computed(feeds: Record<string, TypedTensor>): Record<string, TypedTensor> {
    const graph = this.#graphFor(feeds);
    const outputs: Record<string, TypedTensor> = {};
    this.#tf.tidy(() => {
      const scope: Scope = new Map(graph.constants);
      for (const { name } of this.#contract.inputs) scope.set(name, tensorOf(this.#tf, name, feeds[name]!));
      graph.compute(graph.nodes, scope);
      for (const spec of this.#contract.outputs) outputs[spec.name] = valuesOf(spec, scope.get(spec.name)!);
    });
    return outputs;
  }

  #graphFor(feeds: Record<string, TypedTensor>): TfjsGraph {
    const shapes = Object.fromEntries(this.#contract.inputs.map(({ name }) => [name, feeds[name]!.dims]));
    const key = JSON.stringify(shapes);
    const graph = this.#graphs.get(key) ?? this.#opened(shapes);
    this.#graphs.delete(key);
    this.#graphs.set(key, graph);
    const [oldest] = this.#graphs.keys();
    if (this.#graphs.size > GRAPHS_MAX) {
      this.#graphs.get(oldest!)!.release();
      this.#graphs.delete(oldest!);
    }
    return graph;
  }

  #opened(shapes: Readonly<Record<string, readonly number[]>>): TfjsGraph {
    try {
      return new TfjsGraph(this.#tf, openPrediction(this.#model, shapes), this.#weights);
    } catch (error) {
      if (!(error instanceof OnnxError)) throw error;
      throw new EngineError(`tfjs cannot compute the model: ${error.message}`, { cause: error });
    }
  }

  #letGo(): void {
    for (const graph of this.#graphs.values()) graph.release();
    for (const tensor of this.#weights.values()) tensor.dispose();
    this.#graphs.clear();
    this.#weights.clear();
  }
}

function requireComputable({ graph }: ModelProto, { inputs, outputs }: ModelContract): void {
  const quantized = graph!.node.find(({ opType }) => isQuantizedOperator(opType));
  if (quantized !== undefined) {
    throw new EngineError(
      `tfjs computes float32 alone, and this is a quantized form (${quantized.opType} of node '${quantized.name}'); ort-cpu runs it`,
    );
  }
  const odd = [...inputs, ...outputs].find(({ dtype }) => !DTYPES.includes(dtype));
  if (odd !== undefined) throw new EngineError(`tfjs has no ${odd.dtype}, which '${odd.name}' is of; ort-cpu has`);
}

/** One row, and one of whatever else is open. */
function zerosOf({ dtype, dims }: TensorSpec): TypedTensor {
  const kind = elementKind(dtype)!;
  const shape = dims.map((size) => Math.abs(size));
  return {
    type: kind.type,
    dims: shape,
    data: zeros(
      kind,
      shape.reduce((size, one) => size * one, 1),
    ),
  };
}

/** A copy, in the array that apps have for the element type. */
function valuesOf({ dtype }: TensorSpec, tensor: Tensor): TypedTensor {
  const kind = elementKind(dtype)!;
  const data = zeros(kind, tensor.size);
  const values = tensor.dataSync();
  if (data instanceof BigInt64Array) for (let at = 0; at < values.length; at++) data[at] = BigInt(values[at]!);
  else (data as Float32Array).set(values);
  return { type: kind.type, data, dims: tensor.shape };
}
