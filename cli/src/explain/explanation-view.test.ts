import type { Explanation } from '@commonweight/client-sdk';
import { expect, test } from 'vitest';
import { explanationText } from './explanation-view.ts';

const of = (dims: number[], data: number[], values = data): Explanation => ({
  version: 3,
  method: 'integrated-gradients',
  steps: 32,
  output: 'logits',
  rows: [{ index: 2, value: 1.25, baselineValue: -0.5, gap: 0.001 }],
  inputs: { input: { dims, data: Float32Array.from(values) } },
  attributions: { input: { dims, data: Float32Array.from(data) } },
});

test('the values that count most come first, by the names of their columns', () => {
  const text = explanationText(of([1, 3], [0.5, -2, 0], [1, 2.345678, 0]), {
    columns: ['age', 'height', 'weight'],
    baseline: 'zeros',
    top: 2,
  });
  expect(text.split('\n')).toEqual([
    'logits 2 is 1.250, and -0.5000 for zeros; by integrated-gradients, 32 steps, which miss the difference by 1.0e-3',
    'input: the 2 of 3 values that count most',
    'value   is     adds',
    'height  2.346  -2.00',
    'age     1      +0.500',
  ]);
});

test('an image is drawn, its channels added up, and a flat square is one', () => {
  const pixels = Array.from({ length: 64 }, (_, place) => (place === 9 ? 1 : place === 10 ? -0.2 : 0));
  const lines = (dims: number[], data: number[]): string[] =>
    explanationText(of(dims, data), { baseline: 'zeros', top: 1 }).split('\n');
  const flat = lines([1, 64], pixels);
  expect(flat.slice(1, 4)).toEqual(['. . . . . . . .', '. # - . . . . .', '. . . . . . . .']);
  expect(flat.at(-1)).toBe('1,1    1   +1.00');
  const channels = lines([1, 2, 8, 8], [...pixels.map((share) => -share), ...pixels.map((share) => share * 3)]);
  expect(channels[2]).toBe('. # - . . . . .');
  expect(channels.at(-1)).toBe('1,1,1  3   +3.00');
});
