import { expect, test } from 'vitest';
import { ServingError } from '../errors.ts';
import type { ImportanceAnswer } from '../protocol/explain.ts';
import { readImportanceRequest, writeImportanceAnswer } from './importance-codec.ts';

const table = { name: 'input', datatype: 'FP32', shape: [2, 2], data: [1, 2, 3, 4] };
const read = (json: unknown) =>
  readImportanceRequest(new TextEncoder().encode(typeof json === 'string' ? json : JSON.stringify(json)));

test('what is left out has its default, and what is given is kept', () => {
  const inputs = [{ ...table, data: new Float32Array(table.data) }];
  expect(read({ inputs: [table], labels: [0, 1] })).toEqual({
    inputs,
    labels: [0, 1],
    score: 'accuracy',
    repeats: 5,
  });
  expect(read({ inputs: [table], labels: [0.5, -1], score: 'mse', repeats: 20 })).toEqual({
    inputs,
    labels: [0.5, -1],
    score: 'mse',
    repeats: 20,
  });
});

test.each<[string, unknown, string]>([
  ['a key that is unknown', { inputs: [table], labels: [0, 1], columns: [0] }, 'an importance has no "columns"'],
  ['labels that are missing', { inputs: [table] }, '"labels" must be an array of finite numbers'],
  ['labels that are words', { inputs: [table], labels: ['a', 'b'] }, '"labels" must be an array of finite numbers'],
  ['a label too large for a double', '{"inputs":[],"labels":[0,1e999]}', '"labels" must be an array of finite numbers'],
  ['NaN', '{"inputs":[],"labels":[0,NaN]}', 'JSON has no NaN and no Infinity'],
  [
    'a score that is unknown',
    { inputs: [table], labels: [0, 1], score: 'auc' },
    '"score" must be one of accuracy, mse',
  ],
  ['no turn', { inputs: [table], labels: [0, 1], repeats: 0 }, '"repeats" must be a whole number from 1 to 20'],
  ['too many turns', { inputs: [table], labels: [0, 1], repeats: 21 }, '"repeats" must be a whole number from 1 to 20'],
  ['half a turn', { inputs: [table], labels: [0, 1], repeats: 1.5 }, '"repeats" must be a whole number from 1 to 20'],
])('%s is refused', (_, json, words) => {
  expect(() => read(json)).toThrow(ServingError);
  expect(() => read(json)).toThrow(words);
});

const answer: ImportanceAnswer = {
  model: 'm',
  version: 3,
  score: 'mse',
  value: -0.5,
  rows: 2,
  columns: [{ column: 1, drop: 0.25, spread: 0 }],
};

test('an answer names model, version and score', () => {
  const [json] = writeImportanceAnswer(answer).parts;
  expect(JSON.parse(new TextDecoder().decode(json))).toEqual({
    model_name: 'm',
    model_version: '3',
    method: 'permutation',
    score: 'mse',
    value: -0.5,
    rows: 2,
    columns: [{ column: 1, drop: 0.25, spread: 0 }],
  });
});

test('what JSON cannot say is refused, not sent as null', () => {
  const wrong: ImportanceAnswer[] = [
    { ...answer, value: -Infinity },
    { ...answer, columns: [{ column: 0, drop: NaN, spread: 0 }] },
    { ...answer, columns: [{ column: 0, drop: 1, spread: Infinity }] },
  ];
  for (const one of wrong) expect(() => writeImportanceAnswer(one)).toThrow('or becomes infinite');
});
