import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ServingError } from '../errors.ts';
import { datatype } from '../protocol/datatypes.ts';
import type { NamedTensor } from '../protocol/request.ts';
import { readInferRequest, writeInferAnswer } from './codec.ts';

const encoded = (text: string): Uint8Array => new TextEncoder().encode(text);
const read = (json: unknown, binary = new Uint8Array(0)) => {
  const text = encoded(JSON.stringify(json));
  return readInferRequest(Buffer.concat([text, binary]), binary.length === 0 ? undefined : String(text.length));
};

const RANGES: Record<string, fc.Arbitrary<number | bigint | string>> = {
  BOOL: fc.nat(1),
  UINT8: fc.nat(255),
  UINT16: fc.nat(65_535),
  UINT32: fc.nat(2 ** 32 - 1),
  UINT64: fc.bigInt(0n, 2n ** 64n - 1n),
  INT8: fc.integer({ min: -128, max: 127 }),
  INT16: fc.integer({ min: -32_768, max: 32_767 }),
  INT32: fc.integer(),
  INT64: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
  FP32: fc.float({ noNaN: true, noDefaultInfinity: true }),
  FP64: fc.double({ noNaN: true, noDefaultInfinity: true }),
  FP16: fc.integer({ min: -2048, max: 2048 }).map((value) => value / 64),
  BYTES: fc.string({ unit: 'grapheme' }),
};

const tensors = fc
  .record({
    name: fc.constantFrom('a', 'b'),
    type: fc.constantFrom(...Object.keys(RANGES)),
    shape: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 3 }),
  })
  .chain(({ name, type, shape }) => {
    const length = shape.reduce((size, dim) => size * dim, 1);
    return fc.array(RANGES[type]!, { minLength: length, maxLength: length }).map((values): NamedTensor => {
      const data = new (datatype(type, name).array)(length);
      values.forEach((value, index) => ((data as unknown as (number | bigint | string)[])[index] = value));
      return { name, datatype: type, shape, data };
    });
  });

test('a binary answer, sent back as a request, is the same tensor', () => {
  fc.assert(
    fc.property(tensors, (tensor) => {
      const { headers, parts } = writeInferAnswer({ model: 'm', version: 1, id: '', outputs: [tensor] }, () => true);
      const jsonLength = Number(headers['Inference-Header-Content-Length']);
      const body = Buffer.concat(parts);
      const { outputs } = JSON.parse(body.subarray(0, jsonLength).toString()) as { outputs: unknown };
      expect(read({ inputs: outputs }, body.subarray(jsonLength)).inputs).toEqual([tensor]);
    }),
  );
});

test('an answer in JSON, sent back as a request, is the same tensor', () => {
  fc.assert(
    fc.property(tensors, (tensor) => {
      fc.pre([...tensor.data].every((value) => typeof value !== 'bigint' || Number.isSafeInteger(Number(value))));
      const { headers, parts } = writeInferAnswer({ model: 'm', version: 1, id: '', outputs: [tensor] }, () => false);
      expect(headers['Content-Type']).toBe('application/json');
      const { outputs } = JSON.parse(Buffer.concat(parts).toString()) as { outputs: unknown };
      // JSON has no -0.
      if (tensor.data instanceof Float32Array || tensor.data instanceof Float64Array)
        tensor.data.forEach((value, index) => (tensor.data[index] = value + 0));
      expect(read({ inputs: outputs }).inputs).toEqual([tensor]);
    }),
  );
});

test('values may be nested as the shape is', () => {
  const { inputs } = read({
    inputs: [
      {
        name: 'x',
        datatype: 'INT32',
        shape: [2, 3],
        data: [
          [1, 2, 3],
          [4, 5, 6],
        ],
      },
    ],
  });
  expect(inputs[0]!.data).toEqual(Int32Array.of(1, 2, 3, 4, 5, 6));
});

test('an answer names the model, the version that made it and the id', () => {
  const output = { name: 'y', datatype: 'FP32', shape: [1, 2], data: Float32Array.of(1, 0.5) };
  const { parts } = writeInferAnswer({ model: 'm', version: 7, id: 'q', outputs: [output] }, () => false);
  expect(JSON.parse(Buffer.concat(parts).toString())).toEqual({
    model_name: 'm',
    model_version: '7',
    id: 'q',
    outputs: [{ name: 'y', datatype: 'FP32', shape: [1, 2], data: [1, 0.5] }],
  });
});

test('an output that JSON cannot say is refused, and given as bytes', () => {
  const output = { name: 'y', datatype: 'FP32', shape: [1], data: Float32Array.of(NaN) };
  const answer = { model: 'm', version: 1, id: '', outputs: [output] };
  expect(() => writeInferAnswer(answer, () => false)).toThrow("value 0 of output 'y' is NaN, which JSON cannot say");
  expect(writeInferAnswer(answer, () => true).parts).toHaveLength(2);
});

const x = { name: 'x', datatype: 'FP32', shape: [2], data: [1, 2] };
test.each<[string, unknown, string, string]>([
  ['no inputs', {}, 'bad-request', 'no array "inputs"'],
  ['an input that is no object', { inputs: [3] }, 'bad-request', 'input 0 is no object'],
  ['an input without a name', { inputs: [{ ...x, name: undefined }] }, 'bad-request', 'input 0 has no "name"'],
  ['an input named twice', { inputs: [x, x] }, 'wrong-input', "input 'x' is named twice"],
  [
    'too many inputs',
    { inputs: Array.from({ length: 65 }, (_, n) => ({ ...x, name: `x${n}` })) },
    'wrong-input',
    'at most 64',
  ],
  ['a long name', { inputs: [{ ...x, name: 'x'.repeat(257) }] }, 'wrong-input', 'is too long'],
  ['an unknown datatype', { inputs: [{ ...x, datatype: 'BF16' }] }, 'wrong-input', 'this server takes BOOL, UINT8'],
  ['a datatype of the prototype', { inputs: [{ ...x, datatype: 'constructor' }] }, 'wrong-input', 'this server takes'],
  ['a number among texts', { inputs: [{ ...x, datatype: 'BYTES', data: ['a', 1] }] }, 'wrong-input', 'takes texts'],
  ['beyond halves', { inputs: [{ ...x, datatype: 'FP16', data: [1, 65_520] }] }, 'wrong-input', 'within its range'],
  ['a shape of nothing', { inputs: [{ ...x, shape: [0] }] }, 'wrong-input', 'not of whole numbers from 1 on'],
  ['a shape of text', { inputs: [{ ...x, shape: ['2'] }] }, 'wrong-input', 'not of whole numbers from 1 on'],
  ['a huge shape', { inputs: [{ ...x, shape: [2 ** 40, 2 ** 40] }] }, 'wrong-input', 'has 2 values'],
  ['too many axes', { inputs: [{ ...x, shape: Array.from({ length: 17 }, () => 1) }] }, 'wrong-input', 'at most 16'],
  ['too few values', { inputs: [{ ...x, shape: [3] }] }, 'wrong-input', 'has 2 values, and shape [3] holds 3'],
  ['a null among numbers', { inputs: [{ ...x, data: [1, null] }] }, 'wrong-input', "value 1 of input 'x' is null"],
  ['a text among numbers', { inputs: [{ ...x, data: ['NaN', 1] }] }, 'wrong-input', "value 0 of input 'x' is 'NaN'"],
  ['beyond float32', { inputs: [{ ...x, data: [1e39, 1] }] }, 'wrong-input', 'finite numbers within its range'],
  ['beyond int8', { inputs: [{ ...x, datatype: 'INT8', data: [128, 1] }] }, 'wrong-input', 'from -128 to 127'],
  ['a fraction among integers', { inputs: [{ ...x, datatype: 'INT32', data: [0.5, 1] }] }, 'wrong-input', 'is 0.5'],
  [
    'beyond 2^53',
    { inputs: [{ ...x, datatype: 'INT64', data: [2 ** 53, 1] }] },
    'wrong-input',
    'larger ones only as binary',
  ],
  ['a negative UINT64', { inputs: [{ ...x, datatype: 'UINT64', data: [-1, 1] }] }, 'wrong-input', 'is -1'],
  [
    'another nesting',
    { inputs: [{ ...x, shape: [2, 1], data: [[1], 2] }] },
    'wrong-input',
    'along axis 1 there is no array',
  ],
  ['data and a size', { inputs: [{ ...x, parameters: { binary_data_size: 8 } }] }, 'wrong-input', 'give one'],
  [
    'a size beyond the body',
    { inputs: [{ ...x, data: undefined, parameters: { binary_data_size: 8 } }] },
    'wrong-input',
    '0 bytes are left',
  ],
  ['outputs that are no array', { inputs: [x], outputs: 'y' }, 'bad-request', '"outputs" is no array'],
  [
    'a class count',
    { inputs: [x], outputs: [{ name: 'y', parameters: { classification: 3 } }] },
    'wrong-output',
    'classification',
  ],
  ['an id of numbers', { inputs: [x], id: 3 }, 'bad-request', 'put it in quotes'],
  ['a long id', { inputs: [x], id: 'i'.repeat(257) }, 'bad-request', 'at most 256'],
])('%s is refused', (_, json, reason, words) => {
  const refused = refusalOf(() => read(json));
  expect(refused).toEqual({ reason, message: expect.stringContaining(words) as string });
});

test.each<[string, string | Uint8Array, string, string]>([
  ['garbage', 'garbage', 'bad-json', 'the body is not JSON'],
  ['NaN', '{"inputs":[{"data":[NaN]}]}', 'bad-json', 'JSON has no NaN'],
  ['an array', '[]', 'bad-json', 'the JSON is no object'],
  ['no UTF-8', Uint8Array.of(0x7b, 0xff), 'bad-json', 'the body is not JSON'],
  ['deep nesting', `{"a":${'['.repeat(100_000)}`, 'bad-json', 'nested deeper than 32'],
  ['too much', new Uint8Array(9 * 1024 * 1024), 'too-large', 'send large tensors as binary data'],
])('%s instead of JSON is refused', (_, body, reason, words) => {
  const bytes = typeof body === 'string' ? encoded(body) : body;
  const refused = refusalOf(() => readInferRequest(bytes, undefined));
  expect(refused).toEqual({ reason, message: expect.stringContaining(words) as string });
});

test('brackets in a text are no nesting', () => {
  expect(read({ inputs: [x], id: '['.repeat(200) + '"\\"' }).id).toHaveLength(203);
});

test.each([['-1'], ['1e3'], ['99999'], ['']])('a length of JSON of "%s" is refused', (length) => {
  expect(refusalOf(() => readInferRequest(encoded('{}'), length)).reason).toBe('bad-request');
});

test('bytes that belong to no input are refused', () => {
  expect(refusalOf(() => read({ inputs: [x] }, new Uint8Array(3))).message).toContain('3 bytes after the JSON');
});

const almostRequests = fc.record(
  {
    id: fc.oneof(fc.string(), fc.anything()),
    parameters: fc.oneof(fc.anything(), fc.record({ binary_data_output: fc.anything() })),
    inputs: fc.array(
      fc.oneof(
        fc.anything(),
        fc.record(
          {
            name: fc.oneof(fc.string(), fc.anything()),
            datatype: fc.oneof(fc.constantFrom(...Object.keys(RANGES)), fc.anything()),
            shape: fc.oneof(fc.array(fc.oneof(fc.integer({ min: -1, max: 4 }), fc.anything())), fc.anything()),
            data: fc.oneof(fc.array(fc.anything()), fc.anything()),
            parameters: fc.oneof(fc.record({ binary_data_size: fc.oneof(fc.nat(16), fc.anything()) }), fc.anything()),
          },
          { requiredKeys: [] },
        ),
      ),
    ),
    outputs: fc.oneof(
      fc.anything(),
      fc.array(fc.record({ name: fc.anything(), parameters: fc.anything() }, { requiredKeys: [] })),
    ),
  },
  { requiredKeys: [] },
);

test('whatever comes is read or refused, and never fails otherwise', () => {
  fc.assert(
    fc.property(almostRequests, fc.uint8Array({ maxLength: 16 }), (request, binary) => {
      const text = JSON.stringify(request, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
      const body = Buffer.concat([encoded(text), binary]);
      try {
        readInferRequest(body, String(body.length - binary.length));
      } catch (error) {
        expect(error).toBeInstanceOf(ServingError);
      }
    }),
    { numRuns: 2000 },
  );
});

test('any bytes are read or refused', () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.option(fc.string(), { nil: undefined }), (body, length) => {
      expect(() => readInferRequest(body, length)).toThrow(ServingError);
    }),
  );
});

function refusalOf(work: () => unknown): { reason: string; message: string } {
  try {
    work();
  } catch (error) {
    if (error instanceof ServingError) return { reason: error.reason, message: error.message };
    throw error;
  }
  throw new Error('nothing was refused');
}
