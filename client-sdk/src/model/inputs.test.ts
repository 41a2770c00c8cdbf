import { expect, test } from 'vitest';
import { contractBreak } from './contract.ts';
import { feedsFor, zerosFor } from './inputs.ts';

const image = { name: 'input', dtype: 'float', dims: [-1, 2, 2] };

test('the batch follows from the number of values', () => {
  expect(feedsFor([image], { input: new Float32Array(12) })['input']).toMatchObject({
    type: 'float32',
    dims: [3, 2, 2],
  });
});

test('the values are copied, so the app keeps its array', () => {
  const data = new Float32Array(4);
  expect(feedsFor([image], { input: { data, dims: [1, 2, 2] } })['input']?.data).not.toBe(data);
});

test.each([
  ['a missing input', {}, "input 'input' is missing: float[?, 2, 2]"],
  ['an unknown input', { x: new Float32Array(4) }, "no input 'x'; it has 'input'"],
  ['another type', { input: new Float64Array(4) }, 'takes a Float32Array, not a Float64Array'],
  ['a wrong number of values', { input: new Float32Array(5) }, '5 values are not a multiple of 4'],
  ['no values', { input: new Float32Array(0) }, '0 values are not a multiple of 4'],
  ['a wrong shape', { input: { data: new Float32Array(4), dims: [1, 4] } }, 'is float[?, 2, 2], not [1, 4]'],
  ['a shape for other values', { input: { data: new Float32Array(4), dims: [2, 2, 2] } }, 'has 4 values'],
])('%s is refused', (_, inputs, message) => expect(() => feedsFor([image], inputs)).toThrow(message));

test('texts are given as arrays of them', () => {
  const city = { name: 'city', dtype: 'string', dims: [-1, 1] };
  expect(feedsFor([city], { city: ['Rome', 'Oslo'] })).toEqual({
    city: { type: 'string', data: ['Rome', 'Oslo'], dims: [2, 1] },
  });
  expect(zerosFor([city])['city']).toEqual({ type: 'string', data: [''], dims: [1, 1] });
  const refused = (data: unknown) => () => feedsFor([city], { city: data as string[] });
  expect(refused(['Rome', 3])).toThrow("input 'city' is string[?, 1] and takes texts in arrays: it holds number");
  expect(refused({ data: ['Rome', 3], dims: [2, 1] })).toThrow("input 'city' takes texts, and value 1 is none");
  expect(feedsFor([city], { city: [['Rome'], ['Oslo']] })['city']).toEqual({
    type: 'string',
    data: ['Rome', 'Oslo'],
    dims: [2, 1],
  });
  expect(refused(new Float32Array(1))).toThrow('takes an array of texts, not a Float32Array');
});

test('a warm-up runs a batch of one', () => {
  expect(zerosFor([image])['input']?.dims).toEqual([1, 2, 2]);
});

test('a contract breaks when what an app relies on changes, not when outputs are added', () => {
  const logits = { name: 'logits', dtype: 'float', dims: [-1, 10] };
  const before = { inputs: [image], outputs: [logits] };
  expect(contractBreak(before, { inputs: [image], outputs: [logits, { ...logits, name: 'more' }] })).toBeUndefined();
  expect(contractBreak(before, { inputs: [image], outputs: [] })).toBe("output 'logits' is gone");
  expect(contractBreak(before, { inputs: [], outputs: [logits] })).toBe("input 'input' is gone");
  expect(contractBreak(before, { inputs: [{ ...image, dims: [-1, 3] }], outputs: [logits] })).toBe(
    "input 'input' was float[?, 2, 2] and is float[?, 3]",
  );
});

test('numbers in arrays in arrays have the shape that they show; the dimension of rows may be left out', () => {
  const rows = [
    [
      [1, 2],
      [3, 4],
    ],
    [
      [5, 6],
      [7, 8],
    ],
  ];
  const both = feedsFor([image], { input: rows })['input'];
  expect(both).toEqual({ type: 'float32', data: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), dims: [2, 2, 2] });
  expect(feedsFor([image], { input: rows[1]! })['input']).toMatchObject({
    dims: [1, 2, 2],
    data: Float32Array.of(5, 6, 7, 8),
  });
  expect(feedsFor([image], { input: [1, 2, 3, 4] })['input']).toMatchObject({ dims: [1, 2, 2] });
  const tokens = { name: 'tokens', dtype: 'int64', dims: [-1, 3] };
  expect(feedsFor([tokens], { tokens: [[1, 2n, 3]] })['tokens']?.data).toEqual(BigInt64Array.of(1n, 2n, 3n));
  const flags = { name: 'flags', dtype: 'bool', dims: [2] };
  expect(feedsFor([flags], { flags: [true, false] })['flags']?.data).toEqual(Uint8Array.of(1, 0));
});

test.each<[string, unknown, string]>([
  ['arrays of different lengths', [[[1, 2], [3]]], 'its arrays have different lengths'],
  [
    'words',
    [
      [
        ['a', 'b'],
        ['c', 'd'],
      ],
    ],
    'it holds string',
  ],
  ['another shape', [[[1, 2, 3]]], 'is float[?, 2, 2], not [1, 1, 3]'],
])('%s are refused', (_, input, message) => {
  expect(() => feedsFor([image], { input } as never)).toThrow(message);
});

test('whole numbers that a type does not hold are refused', () => {
  const byte = { name: 'byte', dtype: 'uint8', dims: [-1] };
  for (const wrong of [[256], [-1], [1.5], [Number.NaN]])
    expect(() => feedsFor([byte], { byte: wrong })).toThrow('does not hold');
  const token = { name: 'token', dtype: 'int64', dims: [-1] };
  expect(() => feedsFor([token], { token: [0.5] })).toThrow('takes whole numbers, not 0.5');
});
