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
    inputs: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9),
    inputShape: [2, 2],
    labels: Int32Array.of(2, 0, 1),
    classes: 3,
    examples: 3,
  });
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
  await expect(loadDataset(`feedback:${path}`)).rejects.toThrow(/inputs of other shapes, \[1\] and \[2\]/);
});
