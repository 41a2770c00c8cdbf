import { TensorProto_DataType } from './gen/onnx/onnx_pb.ts';
import type { ModelProto, ValueInfoProto } from './gen/onnx/onnx_pb.ts';
import { OnnxError } from './errors.ts';
import { graphOf } from './file.ts';

/** Name, element type and shape of a model input or output; -1 stands for a size fixed only at run time. */
export interface TensorSpec {
  name: string;
  dtype: string;
  dims: readonly number[];
  /** Names of the sizes, '' where one is fixed or has none; only where more than the batch is open. */
  symbols?: readonly string[];
}

/** What callers may rely on across versions of a model. */
export interface ModelContract {
  inputs: TensorSpec[];
  outputs: TensorSpec[];
}

export function contractOf(model: ModelProto): ModelContract {
  const graph = graphOf(model);
  // Before IR version 4 every initializer was listed as an input too.
  const initialized = new Set(graph.initializer.map(({ name }) => name));
  return {
    inputs: graph.input.filter(({ name }) => !initialized.has(name)).map(specOf),
    outputs: graph.output.map(specOf),
  };
}

const elemTypes: ReadonlyMap<string, number> = new Map(
  Object.entries(TensorProto_DataType).map(([name, code]) => [name.toLowerCase(), code]),
);

/** Names of element types in a contract, by ONNX's code. */
export const elemTypeNames: ReadonlyMap<number, string> = new Map([...elemTypes].map(([name, code]) => [code, name]));

/** ONNX's code of an element type by its name in a contract. */
export function elemTypeOf(dtype: string): number {
  return elemTypes.get(dtype) ?? TensorProto_DataType.UNDEFINED;
}

function specOf({ name, type }: ValueInfoProto): TensorSpec {
  if (type?.value.case !== 'tensorType') {
    throw new OnnxError(`'${name}' is not a tensor; export the model with tensor inputs and outputs`);
  }
  const { elemType, shape } = type.value.value;
  const dims = (shape?.dim ?? []).map(({ value }) => (value.case === 'dimValue' ? Number(value.value) : -1));
  const dtype = elemTypeNames.get(elemType) ?? 'undefined';
  if (!dims.some((size, axis) => axis > 0 && size < 0)) return { name, dtype, dims };
  const symbols = (shape?.dim ?? []).map(({ value }) => (value.case === 'dimParam' ? value.value : ''));
  return { name, dtype, dims, symbols };
}
