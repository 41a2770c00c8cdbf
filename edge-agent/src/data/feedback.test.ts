import { appendFile, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FeedbackFolder } from '../../../client-sdk/src/feedback/feedback-folder.ts';
import type { LabelledExample } from '@commonweight/client-sdk';
import { dataState, loadDataset } from './load-dataset.ts';

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'cw-feedback-data-'));
const example = (label: number, values: readonly number[], dims = [1, values.length]): LabelledExample => ({
  model: 'm',
  version: 1,
  guess: 0,
  label,
  atMs: 0,
  inputs: { input: { type: 'float32', data: Float32Array.from(values), dims } },
});

async function giving(path: string, ...examples: LabelledExample[]): Promise<void> {
  const store = new FeedbackFolder(path);
  await store.add(examples);
  await store.close();
}

test('feedback is a data set: inputs by the shape of one row, and labels', async () => {
  const path = await folder();
  await giving(path, example(2, [1, 2, 3, 4], [1, 2, 2]), example(0, [5, 6, 7, 8], [1, 2, 2]));
  await giving(path, example(1, [9, 9, 9, 9], [1, 2, 2]));
  expect(await loadDataset(`feedback:${path}`)).toEqual({
    source: path,
    columns: [
      { name: 'input', values: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9), shape: [2, 2] },
      { name: 'label', values: Int32Array.of(2, 0, 1), shape: [] },
    ],
    label: ['label'],
    examples: 3,
  });
});

test('a model of several inputs has a column for each, whatever they hold', async () => {
  const path = await folder();
  const two = (label: number, age: bigint, text: string): LabelledExample => ({
    ...example(label, []),
    inputs: {
      age: { type: 'int64', data: BigInt64Array.of(age), dims: [1] },
      text: { type: 'string', data: [text, 'é"\n'], dims: [1, 2] },
    },
  });
  await giving(path, two(1, 41n, 'good'), two(0, 7n, 'bad'));
  const { columns } = await loadDataset(`feedback:${path}`);
  expect(columns).toEqual([
    { name: 'age', values: BigInt64Array.of(41n, 7n), shape: [] },
    { name: 'text', values: ['good', 'é"\n', 'bad', 'é"\n'], shape: [2] },
    { name: 'label', values: Int32Array.of(1, 0), shape: [] },
  ]);
  await giving(path, example(1, [1]));
  await expect(loadDataset(`feedback:${path}`)).rejects.toThrow(/holds feedback on age, text and on input: give each/);
});

test('it grows while an agent runs, which its state tells; that of other data never changes', async () => {
  const path = await folder();
  await giving(path, example(1, [1]));
  const state = await dataState(`feedback:${path}`);
  expect(await dataState(`feedback:${path}`)).toBe(state);
  await giving(path, example(1, [1]));
  expect(await dataState(`feedback:${path}`)).not.toBe(state);
  expect(await dataState('mnist')).toBeUndefined();
});

test('half a line at the end is left out, and a damaged one is named', async () => {
  const path = await folder();
  await giving(path, example(1, [1]), example(2, [2]));
  const file = join(path, 'feedback-00000001.jsonl');
  await appendFile(file, '["0123');
  expect((await loadDataset(`feedback:${path}`)).examples).toBe(2);
  const text = await readFile(file, 'utf8');
  await writeFile(file, text.replace('"label":2', '"label":1'));
  await expect(loadDataset(`feedback:${path}`)).rejects.toThrow(
    `${file} line 2 is damaged (its checksum is wrong): delete the line or the file`,
  );
});

test('no feedback, no folder and feedback on other inputs say so', async () => {
  const path = await folder();
  await expect(loadDataset(`feedback:${path}`)).rejects.toThrow(
    /holds no feedback yet: once the app has called model.feedback/,
  );
  await expect(loadDataset(`feedback:${path}/nowhere`)).rejects.toThrow(/cannot read .*nowhere/);
  await giving(path, example(1, [1]), example(1, [1, 2]));
  await expect(loadDataset(`feedback:${path}`)).rejects.toThrow(
    /inputs of other shapes, float32\[1\] and float32\[2\]/,
  );
});
