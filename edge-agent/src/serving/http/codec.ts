/**
 * Requests and answers over HTTP: JSON, or JSON followed by the bytes of tensors (the protocol's extension
 * "binary_tensor_data", where the header Inference-Header-Content-Length says where the JSON ends).
 */
import { quoted, ServingError } from '../errors.ts';
import { bytesOf, valuesFromBytes, valuesFromJson, valuesToJson } from '../protocol/datatypes.ts';
import {
  checkedShape,
  checkId,
  checkNames,
  type InferAnswer,
  type InferRequest,
  type NamedTensor,
} from '../protocol/request.ts';
import { readJsonObject } from './read-json.ts';

export const JSON_LENGTH_HEADER = 'inference-header-content-length';

/** A request, and which outputs it wants as bytes. */
export interface HttpInferRequest extends InferRequest {
  isBinary(output: string): boolean;
}

export interface HttpBody {
  headers: Record<string, string>;
  parts: Uint8Array[];
}

/** Reads a request. `jsonLength` is the header's value, where there is one. */
export function readInferRequest(body: Uint8Array, jsonLength: string | undefined): HttpInferRequest {
  const end = jsonLength === undefined ? body.length : Number(jsonLength);
  if (!/^\d+$/.test(jsonLength ?? '0') || end > body.length) {
    throw new ServingError(
      'bad-request',
      `Inference-Header-Content-Length is ${quoted(jsonLength ?? '')}, and the body has ${body.length} bytes: give the length of the JSON before the binary data`,
    );
  }
  const json = readJsonObject(body.subarray(0, end), { takesBinary: true });
  const inputs = inputsOf(json['inputs'], body.subarray(end));
  const parameters = parametersOf(json['parameters'], 'the request');
  const { names, binary } = outputsOf(json['outputs']);
  const binaryByDefault = flag(parameters, 'binary_data_output', 'the request') ?? false;
  const id = json['id'] ?? '';
  if (typeof id !== 'string') throw new ServingError('bad-request', 'the id is no text: put it in quotes');
  return {
    id: checkId(id),
    inputs,
    outputs: names,
    isBinary: (output) => binary.get(output) ?? binaryByDefault,
  };
}

/** The tensors of a request, their numbers in the JSON or in the bytes behind it. */
export function inputsOf(json: unknown, binary: Uint8Array): NamedTensor[] {
  if (!Array.isArray(json)) {
    throw new ServingError(
      'bad-request',
      'the request has no array "inputs": give { "inputs": [{ "name", "datatype", "shape", "data" }] }',
    );
  }
  const items = json.map((item: unknown, index) => {
    const fields = objectOf(item, `input ${index}`);
    const { name } = fields;
    if (typeof name !== 'string') throw new ServingError('bad-request', `input ${index} has no "name"`);
    return { ...fields, name };
  });
  checkNames(
    items.map(({ name }) => name),
    'input',
  );
  let offset = 0;
  const tensors = items.map((fields): NamedTensor => {
    const { name } = fields;
    const of = `input ${quoted(name)}`;
    const { datatype, shape: given, data } = fields as Record<string, unknown>;
    if (typeof datatype !== 'string') throw new ServingError('wrong-input', `${of} has no "datatype", such as "FP32"`);
    if (!Array.isArray(given)) throw new ServingError('wrong-input', `${of} has no "shape", such as [1, 784]`);
    const shape = checkedShape(given, of);
    const size = parametersOf((fields as Record<string, unknown>)['parameters'], of)['binary_data_size'];
    if (size === undefined) return { name, datatype, shape, data: valuesFromJson(data, datatype, shape, of) };
    if (data !== undefined)
      throw new ServingError('wrong-input', `${of} has both "data" and "binary_data_size": give one`);
    if (!Number.isSafeInteger(size) || (size as number) < 0 || offset + (size as number) > binary.length) {
      throw new ServingError(
        'wrong-input',
        `${of} says binary_data_size ${JSON.stringify(size)}, and ${binary.length - offset} bytes are left after the JSON: is Inference-Header-Content-Length right?`,
      );
    }
    const bytes = binary.subarray(offset, (offset += size as number));
    return { name, datatype, shape, data: valuesFromBytes(bytes, datatype, shape, of) };
  });
  if (offset !== binary.length) {
    throw new ServingError(
      'bad-request',
      `${binary.length - offset} bytes after the JSON belong to no input: give each its binary_data_size`,
    );
  }
  return tensors;
}

function outputsOf(json: unknown): { names: string[]; binary: Map<string, boolean> } {
  const binary = new Map<string, boolean>();
  if (json === undefined) return { names: [], binary };
  if (!Array.isArray(json))
    throw new ServingError('bad-request', '"outputs" is no array: give [{ "name" }], or leave it out');
  const names = json.map((item: unknown, index) => {
    const { name, parameters } = objectOf(item, `output ${index}`);
    if (typeof name !== 'string') throw new ServingError('bad-request', `output ${index} has no "name"`);
    const of = `output ${quoted(name)}`;
    const known = parametersOf(parameters, of);
    if (known['classification'] !== undefined && known['classification'] !== 0) {
      throw new ServingError(
        'wrong-output',
        `${of} asks for "classification", which this server does not have: take the largest values yourself`,
      );
    }
    const wanted = flag(known, 'binary_data', of);
    if (wanted !== undefined) binary.set(name, wanted);
    return name;
  });
  checkNames(names, 'output');
  return { names, binary };
}

function objectOf(item: unknown, of: string): Record<string, unknown> {
  if (typeof item === 'object' && item !== null && !Array.isArray(item)) return item as Record<string, unknown>;
  throw new ServingError('bad-request', `${of} is no object: give { "name", … }`);
}

function parametersOf(json: unknown, of: string): Record<string, unknown> {
  return json === undefined ? {} : objectOf(json, `"parameters" of ${of}`);
}

function flag(parameters: Record<string, unknown>, name: string, of: string): boolean | undefined {
  const value = parameters[name];
  if (value === undefined || typeof value === 'boolean') return value;
  throw new ServingError('bad-request', `parameter ${name} of ${of} is neither true nor false`);
}

/** Writes an answer: JSON, and behind it the bytes of the outputs that are wanted so. */
export function writeInferAnswer(answer: InferAnswer, isBinary: HttpInferRequest['isBinary']): HttpBody {
  const binary: Uint8Array[] = [];
  const outputs = answer.outputs.map((output) => {
    const { name, datatype, shape } = output;
    if (!isBinary(name))
      return { name, datatype, shape, data: valuesToJson(output, `output ${quoted(name)}`, 'ask for binary data') };
    const bytes = bytesOf(output);
    binary.push(bytes);
    return { name, datatype, shape, parameters: { binary_data_size: bytes.length } };
  });
  const json = Buffer.from(
    JSON.stringify({
      model_name: answer.model,
      model_version: String(answer.version),
      ...(answer.id === '' ? {} : { id: answer.id }),
      outputs,
    }),
  );
  const headers =
    binary.length === 0
      ? { 'Content-Type': 'application/json' }
      : { 'Content-Type': 'application/octet-stream', 'Inference-Header-Content-Length': String(json.length) };
  return { headers, parts: [json, ...binary] };
}
