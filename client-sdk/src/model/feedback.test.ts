import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { logistic } from '@commonweight/core';
import { afterEach, expect, test } from 'vitest';
import { MemoryLink } from '../../../test/support/memory-link.ts';
import { connectOn, type Client, type ConnectOptions } from '../client.ts';
import { InputError, ModelError } from '../errors.ts';
import { feedbackFiles } from '../feedback/feedback-folder.ts';
import { exampleIn, type LabelledExample } from '../feedback/feedback-line.ts';
import { nodePlatform } from '../platform/node.ts';
import type { ModelOptions } from './life.ts';
import type { Model } from './model.ts';

const clients: Client[] = [];
afterEach(async () => void (await Promise.all(clients.splice(0).map((client) => client.close()))));

async function open(options: ModelOptions, connecting: ConnectOptions = {}): Promise<Model> {
  const link = new MemoryLink();
  // The largest logit is always the second.
  link.publish(1, logistic({ inputs: 4, outputs: 3, seed: 1 }), (weights) => {
    weights.fill(0);
    weights[weights.length - 2] = 1;
  });
  const client = await connectOn({ ...nodePlatform, openLink: () => link }, '', connecting);
  clients.push(client);
  return client.model('m', options);
}

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'cw-model-feedback-'));

async function kept(path: string): Promise<LabelledExample[]> {
  const texts = await Promise.all((await feedbackFiles(path)).map((file) => readFile(file.path, 'utf8')));
  return texts.flatMap((text) => text.split('\n').slice(0, -1).map(exampleIn));
}

test('what would have been right is kept with what was asked, and counts for accuracy', async () => {
  const cacheDir = await folder();
  const model = await open({ feedback: true }, { cacheDir });
  const [right, wrong] = [
    await model.predict({ input: Float32Array.of(1, 2, 3, 4) }),
    await model.predict({ input: Float32Array.of(5, 6, 7, 8) }),
  ];
  await model.feedback(right.id, { label: 1 });
  await model.feedback(wrong.id, { label: 2 });
  const both = await model.predict({ input: new Float32Array(8).fill(9) });
  await model.feedback(both.id, { labels: [1, 0] });
  const examples = await kept(join(cacheDir, 'feedback', 'm'));
  expect(examples.map(({ label, guess, version }) => [label, guess, version])).toEqual([
    [1, 1, 1],
    [2, 1, 1],
    [1, 1, 1],
    [0, 1, 1],
  ]);
  expect(examples[1]?.inputs['input']).toEqual({ type: 'float32', data: Float32Array.of(5, 6, 7, 8), dims: [1, 4] });
  expect(model.uses.take().uses).toMatchObject([{ labelled: 4n, right: 2n }]);
});

test('labels that are none are refused by what is wrong, and may be given again', async () => {
  const model = await open({ feedback: { folder: await folder() } });
  const { id } = await model.predict({ input: new Float32Array(4) });
  for (const [truth, words] of [
    [{ label: 3 }, 'a label is a whole number from 0 to 2, for there are 3 classes, not 3'],
    [{ label: 0.5 }, 'not 0.5'],
    [{ labels: [1, 2] }, 'feedback on one row is { label }'],
  ] as const) {
    await expect(model.feedback(id, truth)).rejects.toThrow(words);
    await expect(model.feedback(id, truth)).rejects.toBeInstanceOf(InputError);
  }
  const two = await model.predict({ input: new Float32Array(8) });
  await expect(model.feedback(two.id, { label: 1 })).rejects.toThrow(/feedback on 2 rows is \{ labels \}/);
  await model.feedback(two.id, { labels: [1, 1] });
  await model.feedback(id, { label: 1 });
  await expect(model.feedback(id, { label: 1 })).rejects.toThrow(/already/);
});

test('ids that are unknown, and a model on which feedback is off, say so', async () => {
  const on = await open({ feedback: true });
  await expect(on.feedback('nonsense', { label: 1 })).rejects.toThrow(/is the id of no prediction/);
  const off = await open({});
  const { id } = await off.predict({ input: new Float32Array(4) });
  expect(id).toBe('');
  await expect(off.feedback(id, { label: 1 })).rejects.toThrow(
    "feedback on 'm' is not switched on, and no prediction is remembered: open it with client.model('m', { feedback: true })",
  );
  await expect(off.feedback(id, { label: 1 })).rejects.toBeInstanceOf(ModelError);
});

test('without a folder nothing is kept, and accuracy still counts', async () => {
  const model = await open({ feedback: true });
  const { id } = await model.predict({ input: new Float32Array(4) });
  await model.feedback(id, { label: 1 });
  expect(model.uses.take().uses).toMatchObject([{ labelled: 1n, right: 1n }]);
});
