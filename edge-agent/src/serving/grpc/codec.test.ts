import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { inference } from '@commonweight/proto';
import { expect, test } from 'vitest';
import type { NamedTensor } from '../protocol/request.ts';
import { fromGrpc, toGrpc } from './codec.ts';

const tensors: NamedTensor[] = [
  { name: 'a', datatype: 'FP32', shape: [2], data: Float32Array.of(0.5, -1) },
  { name: 'b', datatype: 'INT8', shape: [1, 2], data: Int8Array.of(-128, 127) },
  { name: 'c', datatype: 'BOOL', shape: [2], data: Uint8Array.of(1, 0) },
  { name: 'd', datatype: 'INT64', shape: [1], data: BigInt64Array.of(-(2n ** 63n)) },
  { name: 'e', datatype: 'UINT64', shape: [1], data: BigUint64Array.of(2n ** 64n - 1n) },
  { name: 'f', datatype: 'FP64', shape: [1], data: Float64Array.of(Math.PI) },
  { name: 'g', datatype: 'UINT16', shape: [1], data: Uint16Array.of(65_535) },
  { name: 'h', datatype: 'BYTES', shape: [3], data: ['', 'one', 'zwölf 漢'] },
];

/** An answer as another program reads it, sent back as a request. */
function throughTheWire(isRaw: boolean): inference.ModelInferRequest {
  const answer = toGrpc({ model: 'm', version: 3, id: 'q', outputs: tensors }, isRaw);
  const read = fromBinary(inference.ModelInferResponseSchema, toBinary(inference.ModelInferResponseSchema, answer));
  expect([read.modelName, read.modelVersion, read.id]).toEqual(['m', '3', 'q']);
  return create(inference.ModelInferRequestSchema, {
    id: read.id,
    inputs: read.outputs.map(({ name, datatype, shape, contents }) => ({ name, datatype, shape, contents: contents! })),
    rawInputContents: read.rawOutputContents,
  });
}

test.each([true, false])('tensors survive the wire, as bytes: %s', (isRaw) => {
  const request = fromGrpc(throughTheWire(isRaw));
  expect(request).toEqual({ id: 'q', inputs: tensors, outputs: [], isRaw });
});

test('halves come as bytes alone', () => {
  const half = { name: 'x', datatype: 'FP16', shape: [2], data: Float32Array.of(0.5, -2) };
  const answer = toGrpc({ model: 'm', version: 1, id: '', outputs: [half] }, true);
  expect([...answer.rawOutputContents[0]!]).toEqual([0, 0x38, 0, 0xc0]);
  const request = {
    inputs: [{ name: 'x', datatype: 'FP16', shape: [2n] }],
    rawInputContents: answer.rawOutputContents,
  };
  expect(fromGrpc(create(inference.ModelInferRequestSchema, request)).inputs).toEqual([half]);
  const message = create(inference.ModelInferRequestSchema, { inputs: request.inputs });
  expect(() => fromGrpc(message)).toThrow('has no field of contents: send it in raw_input_contents');
  expect(() => toGrpc({ model: 'm', version: 1, id: '', outputs: [half] }, false)).toThrow('send the inputs as bytes');
});

const a = { name: 'a', datatype: 'FP32', shape: [2n] };
test.each<[string, Parameters<typeof create<typeof inference.ModelInferRequestSchema>>[1], string]>([
  [
    'fewer raw entries than inputs',
    { inputs: [a, { ...a, name: 'b' }], rawInputContents: [new Uint8Array(8)] },
    '1 entries for 2 inputs',
  ],
  ['both kinds of values', { inputs: [{ ...a, contents: {} }], rawInputContents: [new Uint8Array(8)] }, 'give one'],
  ['the wrong number of bytes', { inputs: [a], rawInputContents: [new Uint8Array(7)] }, '7 bytes of data'],
  ['values in another field', { inputs: [{ ...a, contents: { intContents: [1, 2] } }] }, '0 values in fp32_contents'],
  ['beyond INT8', { inputs: [{ ...a, datatype: 'INT8', contents: { intContents: [1, 300] } }] }, 'value 1 of input'],
  [
    'a text that is cut short',
    { inputs: [{ ...a, datatype: 'BYTES' }], rawInputContents: [Uint8Array.of(1, 0, 0, 0, 65, 2, 0, 0, 0, 65)] },
    'cut short within value 1',
  ],
  [
    'too few texts',
    { inputs: [{ ...a, datatype: 'BYTES' }], rawInputContents: [Uint8Array.of(1, 0, 0, 0, 65)] },
    'has 1 texts, and its shape holds 2',
  ],
  [
    'a text that is no UTF-8',
    { inputs: [{ ...a, shape: [1n], datatype: 'BYTES', contents: { bytesContents: [Uint8Array.of(0xff)] } }] },
    "value 0 of input 'a' is no UTF-8 text",
  ],
  ['a negative size', { inputs: [{ ...a, shape: [-1n] }] }, 'not of whole numbers from 1 on'],
  [
    'a byte that is no BOOL',
    { inputs: [{ ...a, datatype: 'BOOL' }], rawInputContents: [Uint8Array.of(1, 2)] },
    'other than 0 and 1',
  ],
])('%s is refused', (_, message, words) => {
  expect(() => fromGrpc(create(inference.ModelInferRequestSchema, message))).toThrow(words);
});
