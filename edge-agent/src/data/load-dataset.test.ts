import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseDataSpec } from './data-spec.ts';
import { classCount, columnOf, labelsOf, type Dataset } from './dataset.ts';
import { loadDataset } from './load-dataset.ts';

test('a specification says kind, place and options', () => {
  expect(parseDataSpec('mnist')).toEqual({ kind: 'mnist', path: '' });
  expect(parseDataSpec('csv:./a b.csv?label=kind&split=test')).toEqual({
    kind: 'csv',
    path: './a b.csv',
    split: 'test',
    label: ['kind'],
  });
  expect(
    parseDataSpec('jsonl:f?input.tabular=age,income&input.text=review&label=y,z&classes=no,yes&longer=cut'),
  ).toEqual({
    kind: 'jsonl',
    path: 'f',
    mapping: { tabular: ['age', 'income'], text: ['review'] },
    label: ['y', 'z'],
    classes: ['no', 'yes'],
    cuts: true,
  });
  expect(parseDataSpec('images:f?size=32x24&channels=1').images).toEqual({
    size: { width: 32, height: 24 },
    channels: 1,
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
  [
    '',
    /is not understood: give mnist, idx:FOLDER, csv:FILE, jsonl:FILE, npz:FILE, images:FOLDER, feedback:FOLDER, with/,
  ],
  ['cifar', /is not understood/],
  ['idx:', /is not understood/],
  ['toString', /is not understood/],
  ['mnist?partitions=0/10', /"partitions" is not known: there are partition, by, alpha, shards.* and input.NAME/],
  ['jsonl:f?size=3x3', /"size" goes with images/],
  ['csv:f?longer=yes', /longer=yes: give cut or refuse/],
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

const values = (data: Dataset, name: string): number[] => [...(columnOf(data, name)!.values as Float64Array)];

async function csvOf(...rows: string[]): Promise<string> {
  const path = join(await mkdtemp(join(tmpdir(), 'cw-data-')), 'rows.csv');
  await writeFile(path, `${rows.join('\n')}\n`);
  return path;
}

test('agents share a file without an overlap', async () => {
  const path = await csvOf('x,label', ...Array.from({ length: 60 }, (_, i) => `${i},${i % 3}`));
  const parts = await Promise.all([0, 1, 2].map((i) => loadDataset(`csv:${path}?partition=${i}/3&alpha=0.3&seed=4`)));
  const all = parts.flatMap((part) => values(part, 'x')).sort((a, b) => a - b);
  expect(all).toEqual(Array.from({ length: 60 }, (_, i) => i));
  for (const part of parts) expect([...labelsOf(part)!]).toEqual(values(part, 'x').map((x) => x % 3));
  // Of each row the line in the file goes along.
  for (const part of parts) expect([...part.lines!]).toEqual(values(part, 'x').map((x) => x + 2));
});

test('without classes examples are dealt out evenly', async () => {
  const path = await csvOf('x,price', ...Array.from({ length: 60 }, (_, i) => `${i},${i}.5`));
  const spec = `csv:${path}?label=price&partition=`;
  expect((await loadDataset(`${spec}1/4`)).examples).toBe(15);
  await expect(loadDataset(`${spec}1/4&alpha=1`)).rejects.toThrow('there are no classes to deal examples out by');
});

test('a file without splits of its own is cut, the same way always, where a split is asked for', async () => {
  const path = await csvOf('x', ...Array.from({ length: 50 }, (_, i) => `${i}`));
  const [all, train, tested] = await Promise.all(
    ['', '?split=train', '?split=test'].map((query) => loadDataset(`csv:${path}${query}`)),
  );
  expect([all!.examples, train!.examples, tested!.examples]).toEqual([50, 45, 5]);
  expect([...values(train!, 'x'), ...values(tested!, 'x')].sort((a, b) => a - b)).toEqual(values(all!, 'x'));
});

test('labels may be several columns, names of classes, or not there', async () => {
  const path = await csvOf('x,kind,"a,b"', '1,no,3', '2,yes,4');
  expect(await loadDataset(`csv:${path}`)).toMatchObject({ label: [] });
  expect(await loadDataset(`csv:${path}?label=x,kind`)).toMatchObject({ label: ['x', 'kind'] });
  expect(await loadDataset(`csv:${path}?label=a,b`)).toMatchObject({ label: ['a,b'] });
  const named = await loadDataset(`csv:${path}?label=kind&classes=yes,no,maybe`);
  expect([...labelsOf(named)!]).toEqual([1, 0]);
  expect(classCount(named)).toBe(3);
  await expect(loadDataset(`csv:${path}?label=colour`)).rejects.toThrow(
    `${path} has no column "colour" but x, kind, a,b: name the label's with &label=COLUMN`,
  );
});

test('the digits: 28 x 28 in [0, 1], and nobody trains on what is tested', async () => {
  const [train, held] = [await loadDataset('mnist'), await loadDataset('mnist?split=test')];
  expect([train.examples, held.examples]).toEqual([9000, 1000]);
  for (const data of [train, held]) {
    expect([columnOf(data, 'image')!.shape, classCount(data)]).toEqual([[28, 28], 10]);
    const pixels = columnOf(data, 'image')!.values as Float32Array;
    expect(pixels.every((value) => value >= 0 && value <= 1)).toBe(true);
    expect(new Set(labelsOf(data)).size).toBe(10);
  }
  const images = (data: Dataset): Set<string> => {
    const all = columnOf(data, 'image')!.values as Float32Array;
    return new Set(Array.from({ length: data.examples }, (_, i) => all.subarray(i * 784, (i + 1) * 784).join()));
  };
  const trained = images(train);
  expect([...images(held)].filter((image) => trained.has(image))).toEqual([]);
});
