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
  expect(refused(['Rome', 3])).toThrow("input 'city' takes texts, and value 1 is none");
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
