import { create } from '@bufbuild/protobuf';
import { ConfigError } from '../errors.ts';
import { elemTypeOf } from '../onnx/contract.ts';
import { OperatorSetIdProtoSchema, TensorProto_DataType, TensorProtoSchema } from '../onnx/gen/onnx/onnx_pb.ts';
import type { ModelProto, NodeProto, TensorProto, ValueInfoProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue, opsetVersion } from '../onnx/nodes.ts';
import type { Attributes } from '../onnx/nodes.ts';
import { floatTensor, int64Tensor } from '../onnx/tensor-data.ts';

/** Operator sets of its own that a graph may use besides the standard one. */
const domains: Readonly<Record<string, number>> = { 'ai.onnx.ml': 3, 'com.microsoft': 1 };

/** Writes a graph whose shapes are told at run time, and knows which operator sets it needs. */
export class FrontWriter {
  readonly #nodes: NodeProto[] = [];
  readonly #initializers: TensorProto[] = [];
  readonly #inputs: Map<string, { value: ValueInfoProto; dtype: string; dims: readonly (number | string)[] }> =
    new Map();
  readonly #outputs: ValueInfoProto[] = [];
  readonly #domains: Set<string> = new Set();
  #opset = opsetVersion;
  #count = 0;

  /** An input of the graph; several steps may read one. Throws ConfigError where they want it in different types. */
  input(name: string, dtype: string, dims: readonly (number | string)[]): string {
    const known = this.#inputs.get(name);
    if (known !== undefined && (known.dtype !== dtype || known.dims.join() !== dims.join())) {
      throw new ConfigError(
        `column "${name}" is read as ${known.dtype} by one step and as ${dtype} by another; give it to one of them under another name`,
        name,
      );
    }
    this.#inputs.set(name, { value: makeValue(name, ['batch', ...dims], elemTypeOf(dtype)), dtype, dims });
    return name;
  }

  output(name: string, dtype: string, dims: readonly (number | string)[]): string {
    this.#outputs.push(makeValue(name, ['batch', ...dims], elemTypeOf(dtype)));
    return name;
  }

  /** Appends a node and answers the name of its first output. `since` is the operator set that it needs, `more` are outputs behind the first. */
  emit(
    opType: string,
    inputs: readonly string[],
    attributes: Attributes = {},
    {
      domain = '',
      since = opsetVersion,
      output = this.fresh(opType),
      more = [],
    }: { domain?: string; since?: number; output?: string; more?: readonly string[] } = {},
  ): string {
    const node = makeNode(opType, inputs, [output, ...more], attributes);
    node.domain = domain;
    if (domain !== '') this.#domains.add(domain);
    this.#opset = Math.max(this.#opset, since);
    this.#nodes.push(node);
    return output;
  }

  floats(values: readonly number[], shape: readonly number[] = [values.length]): string {
    return this.#constant(floatTensor(this.fresh('floats'), shape, Float32Array.from(values)));
  }

  integers(values: readonly number[], shape: readonly number[] = [values.length]): string {
    return this.#constant(int64Tensor(this.fresh('integers'), values, shape));
  }

  /** One uint32. */
  unsigned(value: number): string {
    const name = this.fresh('unsigned');
    return this.#constant(
      create(TensorProtoSchema, { name, dims: [], dataType: TensorProto_DataType.UINT32, uint64Data: [BigInt(value)] }),
    );
  }

  model(): ModelProto {
    const model = makeModel({
      name: 'preprocess',
      node: this.#nodes,
      initializer: this.#initializers,
      input: [...this.#inputs.values()].map(({ value }) => value),
      output: this.#outputs,
    });
    model.opsetImport[0]!.version = BigInt(this.#opset);
    for (const domain of this.#domains) {
      model.opsetImport.push(create(OperatorSetIdProtoSchema, { domain, version: BigInt(domains[domain]!) }));
    }
    return model;
  }

  #constant(tensor: TensorProto): string {
    this.#initializers.push(tensor);
    return tensor.name;
  }

  /** A name that no value has yet. */
  fresh(hint: string): string {
    this.#count += 1;
    return `${hint.toLowerCase()}_${this.#count}`;
  }
}
