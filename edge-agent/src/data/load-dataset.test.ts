import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadDataset, parseDataSpec } from './load-dataset.ts';

test('a specification says kind, place and options', () => {
  expect(parseDataSpec('mnist')).toEqual({ kind: 'mnist', path: '', split: 'train', label: 'label' });
  expect(parseDataSpec('csv:./a b.csv?label=kind&split=test')).toEqual({
    kind: 'csv',
    path: './a b.csv',
    split: 'test',
    label: 'kind',
  });
  expect(parseDataSpec('idx:/data?partition=2/10&alpha=0.5&seed=7').partition).toEqual({
    index: 2,
    parts: 10,
    by: 'dirichlet',
    alpha: 0.5,
    seed: 7,
  });
  expect(parseDataSpec('mnist?partition=0/100&by=shards').partition).toMatchObject({ by: 'shards', shards: 2 });
});

test.each([
  ['', /is not understood: give mnist, idx:FOLDER, csv:FILE or feedback:FOLDER/],
  ['cifar', /is not understood/],
  ['idx:', /is not understood/],
  ['toString', /is not understood/],
  ['mnist?partitions=0/10', /"partitions" is not known: there are partition, by, alpha, shards/],
  ['mnist?split=all', /split=all: give train or test/],
  ['mnist?partition=10', /partition=10: give I\/N/],
  ['mnist?partition=0/0', /partition=0\/0: give I\/N/],
  ['mnist?partition=0/2&alpha=0', /alpha=0: give a number above 0/],
  ['mnist?partition=0/2&alpha=x', /alpha=x: give a number above 0/],
  ['mnist?partition=0/2&by=label', /by=label: give dirichlet, iid or shards/],
  ['mnist?partition=0/2&by=iid&alpha=1', /alpha means nothing where by=iid/],
  ['mnist?partition=0/2&by=shards&shards=0', /shards=0: give a whole number/],
  ['mnist?partition=0/2&seed=1.5', /seed=1.5: give a whole number/],
])('%j is refused by what is wrong', (spec, message) => {
  expect(() => parseDataSpec(spec)).toThrow(message);
});

test('agents share a file without an overlap', async () => {
  const path = join(await mkdtemp(join(tmpdir(), 'cw-data-')), 'rows.csv');
  await writeFile(path, `x,label\n${Array.from({ length: 60 }, (_, i) => `${i},${i % 3}`).join('\n')}\n`);
  const parts = await Promise.all([0, 1, 2].map((i) => loadDataset(`csv:${path}?partition=${i}/3&alpha=0.3&seed=4`)));
  const values = parts.flatMap(({ inputs }) => [...inputs]).sort((a, b) => a - b);
  expect(values).toEqual(Array.from({ length: 60 }, (_, i) => i));
  for (const { inputs, labels } of parts) expect([...labels]).toEqual([...inputs].map((x) => x % 3));
});

test('the digits: 28 x 28 in [0, 1], and nobody trains on what is tested', async () => {
  const [train, held] = [await loadDataset('mnist'), await loadDataset('mnist?split=test')];
  expect([train.examples, held.examples]).toEqual([9000, 1000]);
  for (const { inputs, inputShape, labels, classes } of [train, held]) {
    expect([inputShape, classes]).toEqual([[28, 28], 10]);
    expect(inputs.every((value) => value >= 0 && value <= 1)).toBe(true);
    expect(new Set(labels).size).toBe(10);
  }
  const images = ({ inputs, examples }: typeof train): Set<string> =>
    new Set(Array.from({ length: examples }, (_, i) => inputs.subarray(i * 784, (i + 1) * 784).join()));
  const trained = images(train);
  expect([...images(held)].filter((image) => trained.has(image))).toEqual([]);
});
