import { expect, test } from 'vitest';
import { DataError } from './dataset.ts';
import { parseJsonl } from './jsonl.ts';

const parse = (...lines: unknown[]): ReturnType<typeof parseJsonl> =>
  parseJsonl(lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'), 'f.jsonl');

test('one object a line: values, texts, boxes, and lists of different lengths', () => {
  const data = parse(
    {
      age: 41,
      text: 'ä',
      box: [
        [1, 2],
        [3, 4],
      ],
      tokens: [5, 6, 7],
      yes: true,
      label: 0,
    },
    '',
    {
      age: 0.5,
      text: '',
      box: [
        [5, 6],
        [7, 8],
      ],
      tokens: [],
      yes: false,
      label: 1,
    },
  );
  expect(data).toMatchObject({ examples: 2, lines: Uint32Array.of(1, 3) });
  expect(data.columns).toEqual([
    { name: 'age', values: Float64Array.of(41, 0.5), shape: [] },
    { name: 'text', values: ['ä', ''], shape: [] },
    { name: 'box', values: Float64Array.of(1, 2, 3, 4, 5, 6, 7, 8), shape: [2, 2] },
    { name: 'tokens', values: Float64Array.of(5, 6, 7), shape: [], ends: Uint32Array.of(3, 3) },
    { name: 'yes', values: Float64Array.of(1, 0), shape: [] },
    { name: 'label', values: Float64Array.of(0, 1), shape: [] },
  ]);
});

test.each([
  [['{"a": 1'], /f\.jsonl line 1 is not JSON/],
  [['[1]'], /f\.jsonl line 1 is no object: write \{"name": value/],
  [[{ a: 1 }, { a: 1, b: 2 }], /line 2 has "b", which the first object has not/],
  [[{ a: 1, b: 2 }, { a: 1 }], /line 2 has no "b", which the first object has/],
  [[{ a: 1 }, { a: null }], /line 2 has no "a"/],
  [[{ a: 1 }, { a: 'x' }], /line 2: "a" holds numbers and texts/],
  [[{ a: 1 }, { a: [1] }], /line 2: "a" is a list in one place and a value in another/],
  [[{ a: [[1, 2], [3]] }], /line 1: "a" has lists of different lengths within one another/],
  [[{ a: [[[1], [2, 3]]] }], /line 1: "a" has lists of different lengths within one another/],
  [[{ a: { b: 1 } }], /line 1: "a" holds \{"b":1\}, which is no number, truth or text/],
  [['', ' '], /has no objects: give one JSON object a line/],
])('%j is refused by what is wrong', (lines, message) => {
  expect(() => parse(...(lines as unknown[]))).toThrow(DataError);
  expect(() => parse(...(lines as unknown[]))).toThrow(message);
});
