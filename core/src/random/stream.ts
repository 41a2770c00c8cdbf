/** A seeded stream of chance. Streams forked under different labels are independent of each other and of what was drawn before. */
export interface RandomStream {
  /** A stream of its own for one use, so that a new draw in one place moves nothing in another. */
  fork(label: string): RandomStream;
  /** Uniform in [0, 1), 53 bits. */
  uniform(): number;
  /** Standard normal (Marsaglia's polar method). */
  normal(): number;
  /** Uniform whole number in [0, below). */
  integer(below: number): number;
  /** 32 uniform bits as an unsigned number. */
  bits(): number;
  /** The items in a uniformly random order (Fisher-Yates), as a new array. */
  shuffle<T>(items: readonly T[]): T[];
}

/** The stream of a seed. The same seed gives the same stream on every platform. */
export function seeded(seed: number | bigint | string): RandomStream {
  return streamOf(`${typeof seed}:${seed}`);
}

function streamOf(key: string): RandomStream {
  const bits = sfc32(key);
  const uniform = (): number => ((bits() >>> 5) * 0x4000000 + (bits() >>> 6)) / 2 ** 53;
  const integer = (below: number): number => Math.floor(uniform() * below);
  return {
    fork: (label) => streamOf(`${key}/${label.length}:${label}`),
    uniform,
    normal: () => polarNormal(uniform),
    integer,
    bits,
    shuffle: (items) => shuffled(items, integer),
  };
}

function polarNormal(uniform: () => number): number {
  for (;;) {
    const u = 2 * uniform() - 1;
    const v = 2 * uniform() - 1;
    const square = u * u + v * v;
    if (square > 0 && square < 1) return u * Math.sqrt((-2 * Math.log(square)) / square);
  }
}

function shuffled<T>(items: readonly T[], integer: (below: number) => number): T[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = integer(i + 1);
    [result[i], result[j]] = [result[j] as T, result[i] as T];
  }
  return result;
}

/** Doty-Humphrey's "small fast counting" generator, 128 bits of state (PractRand, sfc32). */
function sfc32(key: string): () => number {
  let [a, b, c] = [hash(key, 0x9e3779b9), hash(key, 0x85ebca6b), hash(key, 0xc2b2ae35)];
  let counter = 1;
  const next = (): number => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    c |= 0;
    return sum >>> 0;
  };
  for (let i = 0; i < 12; i++) next();
  return next;
}

/** MurmurHash3's 32-bit mixing over UTF-16 units: turns a key into words of state. */
function hash(key: string, seed: number): number {
  let h = seed;
  for (let i = 0; i < key.length; i++) {
    h = Math.imul(h ^ Math.imul(key.charCodeAt(i), 0xcc9e2d51), 0x1b873593);
    h = (h << 13) | (h >>> 19);
  }
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
