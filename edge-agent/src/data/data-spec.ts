import { DataError } from './dataset.ts';
import type { ImageOptions } from './images.ts';
import type { Dealing, Partition } from './partition.ts';

/** Where examples come from and how they are read, such as `csv:people.csv?label=income`. */
export interface DataSpec {
  kind: SourceKind;
  path: string;
  /** Undefined where nobody asked for one. */
  split?: 'train' | 'test';
  /** Columns that are to be learnt; undefined where nobody named any. */
  label?: readonly string[];
  /** Columns of an input, by its name. */
  mapping?: Readonly<Record<string, readonly string[]>>;
  classes?: readonly string[];
  /** Columns that stay text. */
  text?: readonly string[];
  cuts?: boolean;
  images?: Partial<ImageOptions>;
  partition?: Partition;
  /** Whether somebody asked for the way of dealing out. */
  isDealingAsked?: boolean;
}

interface Kind {
  /** What stands behind the colon. */
  place: string;
  /** Options that it has besides those that all have. */
  options: readonly string[];
}

export type SourceKind = 'mnist' | 'idx' | 'csv' | 'jsonl' | 'npz' | 'images' | 'feedback';

/** One row per kind of source. */
const sourceKinds: Readonly<Record<SourceKind, Kind>> = {
  mnist: { place: '', options: [] },
  idx: { place: 'FOLDER', options: [] },
  csv: { place: 'FILE', options: ['text'] },
  jsonl: { place: 'FILE', options: [] },
  npz: { place: 'FILE', options: [] },
  images: { place: 'FOLDER', options: ['size', 'channels', 'layout'] },
  feedback: { place: 'FOLDER', options: [] },
};

const COMMON = ['partition', 'by', 'alpha', 'shards', 'seed', 'split', 'label', 'classes', 'longer'];
const INPUT = 'input.';

const kinds = Object.entries<Kind>(sourceKinds)
  .map(([kind, { place }]) => (place === '' ? kind : `${kind}:${place}`))
  .join(', ');
const SHAPE = `${kinds}, with ?label=COLUMN&input.NAME=COLUMN,COLUMN&classes=A,B&split=train|test&partition=I/N&by=dirichlet|iid|shards&alpha=A&shards=K&seed=S`;

export function parseDataSpec(spec: string): DataSpec {
  const [source, query] = splitOnce(spec, '?');
  const [kind, path] = splitOnce(source, ':');
  if (!isKind(kind) || (sourceKinds[kind].place !== '' && path === '')) {
    throw new DataError(`data "${spec}" is not understood: give ${SHAPE}`);
  }
  const options = new URLSearchParams(query);
  const keys: readonly string[] = [...COMMON, ...sourceKinds[kind].options];
  const unknown = [...options.keys()].find((key) => !keys.includes(key) && !key.startsWith(INPUT));
  if (unknown !== undefined) {
    const own = Object.entries<Kind>(sourceKinds).find(([, row]) => row.options.includes(unknown))?.[0];
    const why = own === undefined ? 'is not known' : `goes with ${own}`;
    throw new DataError(`data option "${unknown}" ${why}: there are ${keys.join(', ')} and ${INPUT}NAME`);
  }
  const mapping = [...options].flatMap(([key, value]) =>
    key.startsWith(INPUT) ? [[key.slice(INPUT.length), value.split(',')] as const] : [],
  );
  const partition = partitionOf(options);
  const images = imagesOf(options);
  return {
    kind,
    path,
    ...given('split', choice(options, 'split', ['train', 'test'] as const)),
    ...given('label', options.get('label')?.split(',')),
    ...given('mapping', mapping.length === 0 ? undefined : Object.fromEntries(mapping)),
    ...given('classes', options.get('classes')?.split(',')),
    ...given('text', options.get('text')?.split(',')),
    ...given('cuts', choice(options, 'longer', ['cut', 'refuse'] as const) === 'cut' ? true : undefined),
    ...given('images', images),
    ...given('partition', partition),
    ...given('isDealingAsked', ['by', 'alpha', 'shards'].some((key) => options.has(key)) ? true : undefined),
  };
}

const isKind = (kind: string): kind is SourceKind => Object.hasOwn(sourceKinds, kind);

const given = <K extends string, V>(key: K, value: V | undefined): { [k in K]?: V } =>
  value === undefined ? {} : ({ [key]: value } as { [k in K]?: V });

function choice<T extends string>(options: URLSearchParams, key: string, among: readonly T[]): T | undefined {
  const value = options.get(key);
  if (value === null) return undefined;
  const found = among.find((one) => one === value);
  if (found === undefined) throw new DataError(`data option ${key}=${value}: give ${among.join(' or ')}`);
  return found;
}

const SIDE_MAX = 8192;

function imagesOf(options: URLSearchParams): Partial<ImageOptions> | undefined {
  const size = options.get('size');
  const [, width, height] = /^(\d{1,4})x(\d{1,4})$/.exec(size ?? '') ?? [];
  const isSide = (side: string | undefined): boolean => Number(side) >= 1 && Number(side) <= SIDE_MAX;
  if (size !== null && !(isSide(width) && isSide(height))) {
    throw new DataError(`data option size=${size}: give WIDTHxHEIGHT, such as 32x32`);
  }
  const channels = choice(options, 'channels', ['1', '3']);
  const layout = choice(options, 'layout', ['chw', 'hwc']);
  if (size === null && channels === undefined && layout === undefined) return undefined;
  return {
    ...given('size', size === null ? undefined : { width: Number(width), height: Number(height) }),
    ...given('channels', channels === undefined ? undefined : channels === '1' ? 1 : 3),
    ...given('layout', layout),
  } as Partial<ImageOptions>;
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
