import { expect, test } from 'vitest';
import { testSplitOf } from './test-split.ts';

test.each([
  ['mnist', 'mnist?split=test'],
  ['mnist?split=train', 'mnist?split=test'],
  ['csv:a.csv?label=kind', 'csv:a.csv?label=kind&split=test'],
  ['idx:./f?split=train&seed=3', 'idx:./f?seed=3&split=test'],
])('the held-out part of %s is %s', (spec, expected) => {
  expect(testSplitOf(spec)).toBe(expected);
});
