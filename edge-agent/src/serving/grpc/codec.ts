/** Requests and answers of the protocol's gRPC service. */
import { create } from '@bufbuild/protobuf';
import type { TensorData } from '@commonweight/client-sdk';
import { inference } from '@commonweight/proto';
import { quoted, ServingError } from '../errors.ts';
import {
  bytesOf,
  datatype,
  elementsOf,
  textFrom,
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
): TensorData {
  const { array, contents: field, range } = datatype(name, of);
  if (field === undefined) {
    throw new ServingError(
      'wrong-input',
      `${of} is ${name}, which has no field of contents: send it in raw_input_contents`,
    );
  }
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
    if (
      range !== undefined &&
      typeof value !== 'boolean' &&
      !(value instanceof Uint8Array) &&
      (value < range[0] || value > range[1])
    ) {
      throw new ServingError(
        'wrong-input',
        `value ${index} of ${of} is ${value}; ${name} takes ${range[0]} to ${range[1]}`,
      );
    }
    (data as (number | bigint | string)[])[index] = plain(value, index, of);
  });
  return data;
}

/** A value as a tensor holds it. */
function plain(value: number | bigint | boolean | Uint8Array, index: number, of: string): number | bigint | string {
  if (typeof value === 'boolean') return Number(value);
  return value instanceof Uint8Array ? textFrom(value, index, of) : value;
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
    ...(isRaw ? { rawOutputContents: answer.outputs.map(bytesOf) } : {}),
  });
}

function contentsOf({ datatype: name, data }: WireTensor): Partial<Record<ContentsField, never>> {
  const { contents } = datatype(name, 'an output');
  if (contents === undefined) {
    throw new ServingError(
      'wrong-output',
      `an output is ${name}, which has no field of contents: send the inputs as bytes, then outputs come so`,
    );
  }
  if (!ArrayBuffer.isView(data)) return { [contents]: data.map((text) => Buffer.from(text)) as never[] };
  const values: unknown[] = Array.from<number | bigint>(data as ArrayLike<number>);
  return { [contents]: contents === 'boolContents' ? values.map(Boolean) : values };
}
