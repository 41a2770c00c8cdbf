import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { contractOf, logistic } from '@commonweight/core';
import { beforeAll, expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { examplesFrom } from './example-rows.ts';

const folder = temporaryFolder('example-rows');
const file = join(folder, 'rows.csv');
const contract = contractOf(logistic({ inputs: 2, outputs: 3, seed: 1 }));

/** As many rows as data have, each with its number in it. */
beforeAll(async () => {
  const lines = Array.from({ length: 5000 }, (_, row) => `${row},0.5,${row % 3}`);
  await writeFile(file, ['a,b,label', ...lines, ''].join('\n'));
});

test('rows come with their classes, spread over the data', async () => {
  const found = await examplesFrom(`csv:${file}`)(contract);
  if (!('rows' in found)) throw new Error('no labels');
  expect([found.rows.length, found.labels.length]).toEqual([2304, 2304]);
  const numbers = found.rows.map(({ input }) => Number(input!.data[0]));
  expect([numbers[0], numbers.at(-1)]).toEqual([0, Math.floor((2303 * 5000) / 2304)]);
  expect(numbers.map((row) => row % 3)).toEqual(found.labels);
});

test('labels that are no classes are none, and 256 rows are enough then', async () => {
  const found = await examplesFrom(`csv:${file}?label=b&input.input=a,label`)(contract);
  expect('rows' in found ? found.rows : found).toHaveLength(256);
  expect(found).toBeInstanceOf(Array);
});

test('data that do not fit a model are none for it', async () => {
  const other = contractOf(logistic({ inputs: 7, outputs: 3, seed: 1 }));
  expect(await examplesFrom(`csv:${file}`)(other)).toEqual([]);
});
