import { seeded } from '@commonweight/core';
import { readCsv } from './csv.ts';
import { parseDataSpec, type DataSpec, type SourceKind } from './data-spec.ts';
import { DataError, labelsOf, subset, type Dataset } from './dataset.ts';
import { feedbackState, readFeedback } from './feedback.ts';
import { readIdx } from './idx.ts';
import { readImages } from './images.ts';
import { readJsonl } from './jsonl.ts';
import { readMnist } from './mnist.ts';
import { readNpz } from './npz.ts';
import { partOf, type Partition } from './partition.ts';

interface Source {
  /** Whether its files say what is to train on and what to test with. */
  hasSplits: boolean;
  read(spec: DataSpec): Promise<Omit<Dataset, 'label'>>;
}

const sources: Readonly<Record<SourceKind, Source>> = {
  mnist: { hasSplits: true, read: ({ split }) => readMnist(split ?? 'train') },
  idx: { hasSplits: true, read: ({ path, split }) => readIdx(path, split ?? 'train') },
  csv: { hasSplits: false, read: ({ path, text }) => readCsv(path, text === undefined ? {} : { text }) },
  jsonl: { hasSplits: false, read: ({ path }) => readJsonl(path) },
  npz: { hasSplits: false, read: ({ path }) => readNpz(path) },
  images: {
    hasSplits: false,
    read: ({ path, images, classes }) =>
      readImages(path, { channels: 3, layout: 'chw', ...images, ...(classes === undefined ? {} : { classes }) }),
  },
  feedback: { hasSplits: false, read: ({ path }) => readFeedback(path) },
};

/** The examples of a specification such as `idx:./fashion?partition=0/10&alpha=0.5`. Throws DataError naming what is wrong. */
export async function loadDataset(text: string): Promise<Dataset> {
  const spec = parseDataSpec(text);
  const { split, partition, mapping, classes, cuts } = spec;
  const source = sources[spec.kind];
  const read = await source.read(spec);
  const data: Dataset = {
    ...read,
    label: labelIn(read, spec),
    ...(mapping === undefined ? {} : { mapping }),
    ...(classes === undefined ? {} : { classes }),
    ...(cuts === undefined ? {} : { cuts }),
  };
  const chosen = source.hasSplits || split === undefined ? data : subset(data, splitOf(data.examples, split));
  if (partition === undefined) return chosen;
  const labels = labelsOf(chosen);
  const { index, parts, seed } = partition;
  // Without classes examples are dealt out evenly, unless somebody asked for another way.
  const isEven = labels === undefined && spec.isDealingAsked !== true;
  const dealing: Partition = isEven ? { index, parts, seed, by: 'iid' } : partition;
  return subset(chosen, partOf(labels, chosen.examples, dealing));
}

/** What the values of an example are called, where they are columns of a table. */
export function valueNames({ columns, label }: Dataset): string[] | undefined {
  const read = columns.filter(({ name }) => !label.includes(name));
  return read.every(({ shape, ends }) => shape.length === 0 && ends === undefined)
    ? read.map(({ name }) => name)
    : undefined;
}

/** A text that changes with the data of a specification; undefined where that never does. Throws DataError. */
export async function dataState(text: string): Promise<string | undefined> {
  const { kind, path } = parseDataSpec(text);
  return kind === 'feedback' ? feedbackState(path) : undefined;
}

/** What is to be learnt, where it is there; without a name that is `label`, or nothing. */
function labelIn(data: Pick<Dataset, 'columns' | 'source'>, { label }: DataSpec): readonly string[] {
  const names = data.columns.map(({ name }) => name);
  if (label === undefined) return names.includes('label') ? ['label'] : [];
  // A name may have a comma in it.
  const whole = label.join(',');
  if (names.includes(whole)) return [whole];
  const missing = label.find((name) => !names.includes(name));
  if (missing === undefined) return label;
  throw new DataError(
    `${data.source} has no column "${missing}" but ${names.join(', ')}: name the label's with &label=COLUMN`,
  );
}

/** One in ten examples is to test with, by a draw that never changes. */
const TESTED = 10;

function splitOf(examples: number, split: 'train' | 'test'): number[] {
  const order = seeded('split').shuffle(Array.from({ length: examples }, (_, index) => index));
  const tested = Math.max(1, Math.floor(examples / TESTED));
  if (examples < 2) throw new DataError('there is one example, and none is left to test with: use more data');
  return (split === 'test' ? order.slice(0, tested) : order.slice(tested)).sort((a, b) => a - b);
}
