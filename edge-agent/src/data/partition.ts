import { seeded, type RandomStream } from '@commonweight/core';
import { DataError } from './dataset.ts';

/** How examples are dealt out. */
export type Dealing =
  /** Concentration of the Dirichlet split: small is far from IID, large is near. */
  | { by: 'dirichlet'; alpha: number }
  /** Shuffled, in parts of one size. */
  | { by: 'iid' }
  /** Sorted by label and cut into as many shards as all parts have together; each part gets `shards` of them. */
  | { by: 'shards'; shards: number };

/** One part of a set that is dealt out to agents. */
export type Partition = Dealing & { index: number; parts: number; seed: number };

/** Examples that every part has at least, where there are enough. */
const PART_EXAMPLES_MIN = 10;

/** The indices of one part. Parts are disjoint and together are the whole. */
export function partOf(labels: Int32Array | undefined, examples: number, { index, ...dealing }: Partition): number[] {
  const { parts } = dealing;
  if (index >= parts)
    throw new DataError(`partition ${index}/${parts}: the first part is 0/${parts}, the last ${parts - 1}/${parts}`);
  return dealOut(labels, examples, dealing)[index] ?? [];
}

/** The indices of all parts, each ascending. Throws DataError where examples without classes are to be dealt out by them. */
export function dealOut(
  labels: Int32Array | undefined,
  examples: number,
  dealing: Dealing & { parts: number; seed: number },
): number[][] {
  const { parts, seed } = dealing;
  if (examples < parts * PART_EXAMPLES_MIN) {
    throw new DataError(`${examples} examples are too few for ${parts} parts: use fewer agents or more data`);
  }
  const random = seeded(seed).fork('partition');
  const dealt = dealtBy(labels, examples, dealing, random);
  return dealt.map((part) => part.sort((a, b) => a - b));
}

function dealtBy(
  labels: Int32Array | undefined,
  examples: number,
  dealing: Dealing & { parts: number },
  random: RandomStream,
): number[][] {
  const { parts } = dealing;
  if (dealing.by === 'iid') return cut(random.shuffle(Array.from({ length: examples }, (_, index) => index)), parts);
  if (labels === undefined) {
    throw new DataError(`there are no classes to deal examples out by (${dealing.by}): deal them out evenly, by iid`);
  }
  switch (dealing.by) {
    case 'dirichlet':
      return dirichletParts(labels, parts, dealing.alpha, random);
    case 'shards': {
      const sorted = byLabel(labels).flatMap(([, members]) => members);
      const shards = random.shuffle(cut(sorted, parts * dealing.shards));
      return Array.from({ length: parts }, (_, part) =>
        shards.slice(part * dealing.shards, (part + 1) * dealing.shards).flat(),
      );
    }
  }
}

/** Items in so many pieces, whose sizes differ by one at most. */
const cut = (items: readonly number[], pieces: number): number[][] =>
  Array.from({ length: pieces }, (_, i) =>
    items.slice(Math.floor((i * items.length) / pieces), Math.floor(((i + 1) * items.length) / pieces)),
  );

/**
 * Every class is dealt out in proportions drawn from Dirichlet(alpha), so that parts differ in labels and in size. Source: Hsu et al. 2019,
 * "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification".
 */
function dirichletParts(labels: Int32Array, parts: number, alpha: number, random: RandomStream): number[][] {
  const dealt = Array.from({ length: parts }, () => [] as number[]);
  for (const [label, members] of byLabel(labels)) {
    const stream = random.fork(`class ${label}`);
    const shares = dirichlet(parts, alpha, stream);
    const shuffled = stream.shuffle(members);
    let from = 0;
    let sum = 0;
    shares.forEach((share, part) => {
      sum += share;
      const end = part === parts - 1 ? shuffled.length : Math.round(sum * shuffled.length);
      dealt[part]?.push(...shuffled.slice(from, end));
      from = end;
    });
  }
  topUp(dealt);
  return dealt;
}

function byLabel(labels: Int32Array): [number, number[]][] {
  const members = new Map<number, number[]>();
  labels.forEach((label, i) => {
    const known = members.get(label);
    if (known === undefined) members.set(label, [i]);
    else known.push(i);
  });
  return [...members].sort(([a], [b]) => a - b);
}

/** Moves examples from the largest part to those below the minimum. */
function topUp(dealt: number[][]): void {
  for (const part of dealt) {
    while (part.length < PART_EXAMPLES_MIN) {
      const largest = dealt.reduce((a, b) => (b.length > a.length ? b : a));
      part.push(largest.pop() ?? 0);
    }
  }
}

function dirichlet(parts: number, alpha: number, random: RandomStream): number[] {
  const draws = Array.from({ length: parts }, () => gamma(alpha, random));
  const sum = draws.reduce((total, draw) => total + draw, 0);
  return draws.map((draw) => draw / sum);
}

/** A Gamma(alpha, 1) draw. Source: Marsaglia and Tsang 2000, "A Simple Method for Generating Gamma Variables". */
function gamma(alpha: number, random: RandomStream): number {
  if (alpha < 1) return gamma(alpha + 1, random) * Math.max(random.uniform(), Number.MIN_VALUE) ** (1 / alpha);
  const d = alpha - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = random.normal();
    const v = (1 + c * x) ** 3;
    if (v > 0 && Math.log(1 - random.uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
  }
}
