import { create } from '@bufbuild/protobuf';
import { graphOf } from '../onnx/file.ts';
import { OperatorSetIdProtoSchema } from '../onnx/gen/onnx/onnx_pb.ts';
import type { ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeNode } from '../onnx/nodes.ts';
import type { Attributes } from '../onnx/nodes.ts';
import { floatTensor, floatValues } from '../onnx/tensor-data.ts';
import type { Shape } from '../tensor/shape.ts';
import { GraphView } from './graph-view.ts';
import { removeDead } from './prepare.ts';

/** Domain of the operators that onnxruntime has beyond the standard. */
export const RUNTIME_DOMAIN = 'com.microsoft';

/** Copies a graph node by node, with other nodes in place of some. */
export class GraphWriter {
  readonly view: GraphView;
  readonly nodes: NodeProto[] = [];
  readonly #model: ModelProto;
  readonly #initializers: TensorProto[];
  readonly #made: Map<string, string> = new Map();

  constructor(model: ModelProto) {
    this.#model = model;
    this.view = new GraphView(graphOf(model));
    this.#initializers = [...this.view.graph.initializer];
  }

  keep(node: NodeProto): void {
    this.nodes.push(node);
  }

  /** Appends a node and answers the name of its first output. */
  emit(opType: string, inputs: readonly string[], output: string, attributes: Attributes = {}, domain = ''): string {
    const node = makeNode(opType, inputs, [output], attributes, this.view.freshName(`${output}_${opType}`));
    this.nodes.push({ ...node, domain });
    return output;
  }

  initializer(tensor: TensorProto): string {
    this.#initializers.push(tensor);
    return tensor.name;
  }

  floats(hint: string, shape: Shape, values: Float32Array): string {
    return this.initializer(floatTensor(this.view.freshName(hint), shape, values));
  }

  /** A constant times a number; the constant itself where the number is one. */
  scaled(name: string, factor: number): string {
    if (factor === 1) return name;
    const tensor = this.view.constants.get(name)!;
    const values = floatValues(tensor).map((value) => value * factor);
    return this.initializer({ ...floatTensor(this.view.freshName(`${name}_scaled`), [], values), dims: tensor.dims });
  }

  fresh(hint: string): string {
    return this.view.freshName(hint);
  }

  /** What was made under this key before, or is made now. */
  once(key: string, make: () => string): string {
    const before = this.#made.get(key);
    if (before !== undefined) return before;
    const name = make();
    this.#made.set(key, name);
    return name;
  }

  /** The model with the nodes written so far and the constants that they need. */
  finish(): ModelProto {
    const graph = removeDead({ ...this.view.graph, node: this.nodes, initializer: this.#initializers });
    const usesRuntime = this.nodes.some(({ domain }) => domain === RUNTIME_DOMAIN);
    const isListed = this.#model.opsetImport.some(({ domain }) => domain === RUNTIME_DOMAIN);
    const added =
      usesRuntime && !isListed ? [create(OperatorSetIdProtoSchema, { domain: RUNTIME_DOMAIN, version: 1n })] : [];
    return { ...this.#model, opsetImport: [...this.#model.opsetImport, ...added], graph };
  }
}
