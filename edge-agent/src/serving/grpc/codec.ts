/** Requests and answers of the protocol's gRPC service. */
import { create } from '@bufbuild/protobuf';
import type { TypedArray } from '@commonweight/client-sdk';
import { inference } from '@commonweight/proto';
import { quoted, ServingError } from '../errors.ts';
import {
  bytesOf,
  datatype,
  elementsOf,
  valuesFromBytes,
  type ContentsField,
  type WireTensor,
} from '../protocol/datatypes.ts';
import {
  checkedShape,
  checkId,
  checkNames,
  type InferAnswer,
  type InferRequest,
  type NamedTensor,
} from '../protocol/request.ts';

/** A request, and whether its tensors came as bytes: the answer's go the same way. */
export interface GrpcInferRequest extends InferRequest {
  isRaw: boolean;
}

export function fromGrpc(message: inference.ModelInferRequest): GrpcInferRequest {
  const { inputs, outputs, rawInputContents: raw } = message;
  const isRaw = raw.length > 0;
  checkNames(
    inputs.map(({ name }) => name),
    'input',
  );
  if (isRaw && raw.length !== inputs.length) {
    throw new ServingError(
      'bad-request',
      `raw_input_contents has ${raw.length} entries for ${inputs.length} inputs: give one each, or none`,
    );
  }
  const tensors = inputs.map((input, index): NamedTensor => {
    const { name, contents } = input;
    const of = `input ${quoted(name)}`;
    const shape = checkedShape(input.shape.map(Number), of);
    if (isRaw && contents !== undefined) {
      throw new ServingError('wrong-input', `${of} has contents, and raw_input_contents is given as well: give one`);
    }
    const data = isRaw
      ? valuesFromBytes(raw[index]!, input.datatype, shape, of)
      : valuesFromContents(contents, input.datatype, shape, of);
    return { name, datatype: input.datatype, shape, data };
  });
  const names = outputs.map(({ name }) => name);
  checkNames(names, 'output');
  return { id: checkId(message.id), inputs: tensors, outputs: names, isRaw };
}

function valuesFromContents(
  contents: inference.InferTensorContents | undefined,
  name: string,
  shape: readonly number[],
  of: string,
): TypedArray {
  const { array, contents: field, range } = datatype(name, of);
  const values = contents?.[field] ?? [];
  const count = elementsOf(shape);
  if (values.length !== count) {
    throw new ServingError(
      'wrong-input',
      `${of} has ${values.length} values in ${field.replace('Contents', '_contents')}, and ${name} of shape [${shape.join(', ')}] takes ${count}`,
    );
  }
  const data = new array(count);
  values.forEach((value, index) => {
    if (range !== undefined && typeof value !== 'boolean' && (value < range[0] || value > range[1])) {
      throw new ServingError(
        'wrong-input',
        `value ${index} of ${of} is ${value}; ${name} takes ${range[0]} to ${range[1]}`,
      );
    }
    (data as (number | bigint)[] & TypedArray)[index] = typeof value === 'boolean' ? Number(value) : value;
  });
  return data;
}

export function toGrpc(answer: InferAnswer, isRaw: boolean): inference.ModelInferResponse {
  return create(inference.ModelInferResponseSchema, {
    modelName: answer.model,
    modelVersion: String(answer.version),
    id: answer.id,
    outputs: answer.outputs.map((output) => ({
      name: output.name,
      datatype: output.datatype,
      shape: output.shape.map(BigInt),
      ...(isRaw ? {} : { contents: contentsOf(output) }),
    })),
    ...(isRaw ? { rawOutputContents: answer.outputs.map(({ data }) => bytesOf(data)) } : {}),
  });
}

function contentsOf({ datatype: name, data }: WireTensor): Partial<Record<ContentsField, never>> {
  const { contents } = datatype(name, 'an output');
  const values: unknown[] = Array.from<number | bigint>(data as ArrayLike<number>);
  return { [contents]: contents === 'boolContents' ? values.map(Boolean) : values };
}
