import { readColumns, readCsv } from './csv.ts';
import { feedbackState, readFeedback } from './feedback.ts';
import { DataError, subset, type Dataset } from './dataset.ts';
import { readIdx } from './idx.ts';
import { readMnist } from './mnist.ts';
import { partOf, type Dealing, type Partition } from './partition.ts';

interface DataSpec {
  kind: string;
  path: string;
  split: 'train' | 'test';
  label: string;
  partition?: Partition;
}

const SHAPE =
  'mnist, idx:FOLDER, csv:FILE or feedback:FOLDER, with ?partition=I/N&by=dirichlet|iid|shards&alpha=A&shards=K&seed=S&split=train|test&label=COLUMN';
const KEYS = ['partition', 'by', 'alpha', 'shards', 'seed', 'split', 'label'];

/** The examples of a specification such as `idx:./fashion?partition=0/10&alpha=0.5`. Throws DataError naming what is wrong. */
export async function loadDataset(spec: string): Promise<Dataset> {
  const { kind, path, split, label, partition } = parseDataSpec(spec);
  const data = await readers[kind]?.(path, split, label);
  if (data === undefined) throw new DataError(`data "${spec}" is of no known kind: give ${SHAPE}`);
  return partition === undefined ? data : subset(data, partOf(data.labels, partition));
}

/** What the values of an example are called, where the data say so: the columns of a CSV file. */
export async function columnsOf(spec: string): Promise<string[] | undefined> {
  const { kind, path, label } = parseDataSpec(spec);
  return kind === 'csv' ? await readColumns(path, label) : undefined;
}

const readers: Record<string, (path: string, split: 'train' | 'test', label: string) => Promise<Dataset>> = {
  mnist: (_, split) => readMnist(split),
  idx: (path, split) => readIdx(path, split),
  csv: (path, _, label) => readCsv(path, label),
  feedback: (path) => readFeedback(path),
};

/** A text that changes with the data of a specification; undefined where that never does. Throws DataError. */
export async function dataState(spec: string): Promise<string | undefined> {
  const { kind, path } = parseDataSpec(spec);
  return kind === 'feedback' ? feedbackState(path) : undefined;
}

export function parseDataSpec(spec: string): DataSpec {
  const [source, query] = splitOnce(spec, '?');
  const [kind, path] = splitOnce(source, ':');
  if (!Object.hasOwn(readers, kind) || (kind !== 'mnist' && path === '')) {
    throw new DataError(`data "${spec}" is not understood: give ${SHAPE}`);
  }
  const options = new URLSearchParams(query);
  const unknown = [...options.keys()].find((key) => !KEYS.includes(key));
  if (unknown !== undefined) throw new DataError(`data option "${unknown}" is not known: there are ${KEYS.join(', ')}`);
  const split = options.get('split') ?? 'train';
  if (split !== 'train' && split !== 'test') throw new DataError(`data option split=${split}: give train or test`);
  const partition = partitionOf(options);
  return {
    kind,
    path,
    split,
    label: options.get('label') ?? 'label',
    ...(partition === undefined ? {} : { partition }),
  };
}

function partitionOf(options: URLSearchParams): Partition | undefined {
  const text = options.get('partition');
  if (text === null) return undefined;
  const [, index, parts] = /^(\d{1,6})\/(\d{1,6})$/.exec(text) ?? [];
  const seed = Number(options.get('seed') ?? 1);
  if (index === undefined || Number(parts) < 1)
    throw new DataError(`data option partition=${text}: give I/N, such as 0/10 for the first of ten`);
  if (!Number.isSafeInteger(seed)) throw new DataError(`data option seed=${options.get('seed')}: give a whole number`);
  return { index: Number(index), parts: Number(parts), seed, ...dealingOf(options) };
}

function dealingOf(options: URLSearchParams): Dealing {
  const by = options.get('by') ?? 'dirichlet';
  const stray = (by === 'dirichlet' ? ['shards'] : by === 'shards' ? ['alpha'] : ['alpha', 'shards']).find((key) =>
    options.has(key),
  );
  if (stray !== undefined) throw new DataError(`data option ${stray} means nothing where by=${by}: leave it out`);
  if (by === 'iid') return { by };
  if (by === 'shards') {
    const shards = Number(options.get('shards') ?? 2);
    if (Number.isInteger(shards) && shards >= 1 && shards <= 1000) return { by, shards };
    throw new DataError(`data option shards=${options.get('shards')}: give a whole number from 1 to 1000`);
  }
  if (by !== 'dirichlet') throw new DataError(`data option by=${by}: give dirichlet, iid or shards`);
  const alpha = Number(options.get('alpha') ?? 1);
  if (alpha > 0 && alpha <= 1e6) return { by, alpha };
  throw new DataError(`data option alpha=${options.get('alpha')}: give a number above 0`);
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}
