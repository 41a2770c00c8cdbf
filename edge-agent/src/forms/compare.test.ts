import type { Tensor } from '@commonweight/client-sdk';
import { expect, test } from 'vitest';
import { FormComparison } from './compare.ts';

const scores = (...values: number[]): Record<string, Tensor> => ({
  scores: { data: Float32Array.from(values), dims: [1, values.length] },
});

test('right answers, rows that agree and the largest difference are counted example by example', () => {
  const comparison = new FormComparison(['scores'], [1, 0, 2]);
  comparison.add(0, scores(0, 4, 1), scores(0, 3, 1));
  comparison.add(1, scores(2, 1, 0), scores(1, 2, 0));
  comparison.add(2, scores(0, 1, 0.5), scores(0, 0.5, 1));
  expect(comparison.counts()).toEqual({
    examples: 3,
    labelled: true,
    float32Right: 2,
    right: 2,
    rows: 3,
    agreeing: 1,
    difference: 1 / 4,
  });
});

test.each<[string, Record<string, Tensor>]>([
  ['a number', scores(0.5)],
  ['several answers', { scores: { data: new Float32Array(6), dims: [1, 2, 3] } }],
])('an output that is %s for an example has no right answers', (_, outputs) => {
  const comparison = new FormComparison(['scores'], [0]);
  comparison.add(0, outputs, outputs);
  expect(comparison.counts()).toMatchObject({ examples: 1, labelled: false, float32Right: 0, right: 0, difference: 0 });
});

test('without labels outputs alone are compared, and what is no number is no small difference', () => {
  const comparison = new FormComparison(['scores'], undefined);
  comparison.add(0, scores(1, 2), scores(1, NaN));
  comparison.add(1, scores(1, 2), scores(1, 2));
  expect(comparison.counts()).toMatchObject({ examples: 2, labelled: false, difference: NaN });
});

test('a form that gives something else than float32 is none of it', () => {
  const comparison = new FormComparison(['scores'], undefined);
  expect(() => comparison.add(0, scores(1, 2), scores(1))).toThrow("the form gives another 'scores' than float32");
});
