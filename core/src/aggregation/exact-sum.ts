import { CodecError, invariant } from '../errors.ts';
import type { EncodingName } from '../weights/encoding.ts';
import type { GridSpec } from '../weights/grid.ts';
import { FOLD_VALUES, PLACES, type Accumulator } from './accumulator.ts';
import { foldable, type DenseFoldable, type Foldable } from './foldable.ts';
import { plainAccumulator } from './plain-accumulator.ts';
import { shiftBaseOf, type UpdateFault } from './update-fault.ts';
import { wasmAccumulator } from './wasm-accumulator.ts';

/** An update as the sum sees it. */
export interface WeightedPayload {
  encoding: EncodingName;
  payload: Uint8Array;
  weight: number;
}

const HEADER_BYTES = 32;

/**
 * The weighted sum of updates in 64-bit integers: the same bytes whatever the order of arrival, and however many sums
 * shared the work. Keeps one int64 per parameter, so memory does not grow with the cohort.
 */
export class ExactSum {
  readonly length: number;
  readonly grid: GridSpec;
  readonly #sums: Accumulator;
  #count = 0;
  #totalWeight = 0;

  constructor(length: number, grid: GridSpec, accumulatorOf: (length: number) => Accumulator = accumulator) {
    this.length = length;
    this.grid = grid;
    this.#sums = accumulatorOf(length);
  }

  /** Updates in the sum. */
  get count(): number {
    return this.#count;
  }

  /** Sum of their weights. */
  get totalWeight(): number {
    return this.#totalWeight;
  }

  /** Adds one update, or says why not: then the sum is bit for bit what it was. */
  add(encoding: EncodingName, payload: Uint8Array, weight: number): UpdateFault | undefined {
    return this.addAll([{ encoding, payload, weight }])[0];
  }

  /** Takes out an update that was added with these bytes and this weight: then the sum is bit for bit what it would be without it. */
  remove(encoding: EncodingName, payload: Uint8Array, weight: number): void {
    invariant(this.#count > 0 && this.#totalWeight >= weight, 'only what was added is taken out');
    const update = foldable(encoding, payload, this.#place);
    invariant(typeof update !== 'string', 'what was added is an update');
    this.#takeBack({ update, weight }, this.length);
    this.#count--;
    this.#totalWeight -= weight;
  }

  /** Adds several updates, block by block, so that the accumulators stay in the cache; a fault removes only its update. */
  addAll(updates: readonly WeightedPayload[]): (UpdateFault | undefined)[] {
    const opened = updates.map((update) => this.#opened(update));
    const faults = opened.map((one) => (typeof one === 'string' ? one : undefined));
    const good = opened.flatMap((one, i) => (typeof one === 'string' ? [] : [{ ...one, i }]));
    const groups = together(good, this.grid);
    for (let start = 0; start < this.length; start += FOLD_VALUES) {
      const end = Math.min(start + FOLD_VALUES, this.length);
      for (const group of groups) {
        const left = group.filter(({ i }) => faults[i] === undefined);
        const bad = this.#foldBlock(left, start, end);
        for (const [member, fault] of bad) {
          // Integers come off exactly as they went on, so no second pass over good updates is needed to check them first.
          this.#takeBack(member, start);
          faults[member.i] = fault;
        }
      }
    }
    for (const { weight, i } of good) if (faults[i] === undefined) this.#counted(weight);
    return faults;
  }

  /** Adds another sum over the same grid. */
  merge(other: ExactSum): void {
    invariant(other.length === this.length, 'sums of one model have one length');
    invariant(isSameGrid(other.grid, this.grid), 'sums of one round have one grid');
    const bytes = other.#bytes();
    for (let start = 0; start < this.length; start += FOLD_VALUES) {
      const end = Math.min(start + FOLD_VALUES, this.length);
      this.#sums.foldSums(start, bytes.subarray(8 * start, 8 * end));
    }
    this.#count += other.#count;
    this.#totalWeight += other.#totalWeight;
  }

  /** The weighted mean as float32: each sum is rounded once to float64, divided by the total weight, and rounded to float32. */
  mean(): Float32Array {
    invariant(this.#totalWeight > 0, 'a mean needs at least one update');
    const mean = new Float32Array(this.length);
    this.#sums.means(0, mean, this.#totalWeight, 2 ** this.grid.lsbExponent);
    return mean;
  }

  /** The sums themselves, in steps of the grid. */
  totals(): BigInt64Array {
    const { words } = this.#sums;
    return new BigInt64Array(words.slice(0, 2 * this.length).buffer);
  }

  /** Whether no value is larger than those of updates of this weight together can be. A sum that somebody else made may say anything. */
  get isWithinCaps(): boolean {
    const { words } = this.#sums;
    const { valueMaxExponent, lsbExponent } = this.grid;
    const bound = this.#totalWeight * 2 ** (valueMaxExponent - lsbExponent);
    for (let i = 0; i < 2 * this.length; i += 2) {
      // In float64, whose rounding is far below what the sum has room for.
      if (Math.abs(words[i + 1]! * 2 ** 32 + (words[i]! >>> 0)) > bound) return false;
    }
    return true;
  }

  /** Empties the sum for another round on the same grid. */
  reset(): void {
    this.#sums.words.fill(0);
    this.#count = 0;
    this.#totalWeight = 0;
  }

  /** The whole state: a partial sum that another process can go on with. */
  toBytes(): Uint8Array {
    const bytes = new Uint8Array(HEADER_BYTES + 8 * this.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, this.length, true);
    view.setInt32(4, this.grid.lsbExponent, true);
    view.setInt32(8, this.grid.valueMaxExponent, true);
    view.setUint32(12, this.grid.weightMax, true);
    view.setUint32(16, this.grid.cohortMax, true);
    view.setUint32(20, this.#count, true);
    view.setFloat64(24, this.#totalWeight, true);
    bytes.set(this.#bytes(), HEADER_BYTES);
    return bytes;
  }

  /** The sum of toBytes. Throws CodecError where the bytes are not one. */
  static fromBytes(bytes: Uint8Array): ExactSum {
    if (bytes.length < HEADER_BYTES) throw new CodecError('a partial sum is shorter than its header');
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const length = view.getUint32(0, true);
    if (bytes.length !== HEADER_BYTES + 8 * length) {
      throw new CodecError(`a partial sum of ${length} parameters has another size than ${bytes.length} bytes`);
    }
    const sum = new ExactSum(length, {
      lsbExponent: view.getInt32(4, true),
      valueMaxExponent: view.getInt32(8, true),
      weightMax: view.getUint32(12, true),
      cohortMax: view.getUint32(16, true),
    });
    sum.#count = view.getUint32(20, true);
    sum.#totalWeight = view.getFloat64(24, true);
    new Uint8Array(sum.#sums.words.buffer, sum.#sums.words.byteOffset).set(bytes.subarray(HEADER_BYTES));
    return sum;
  }

  #bytes(): Uint8Array {
    const { words } = this.#sums;
    return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  }

  #counted(weight: number): void {
    invariant(this.#count < this.grid.cohortMax, 'a round takes no more updates than its grid was made for');
    this.#count++;
    this.#totalWeight += weight;
  }

  #opened({ encoding, payload, weight }: WeightedPayload): Weighted | UpdateFault {
    const update = foldable(encoding, payload, this.#place);
    if (typeof update === 'string') return update;
    const isWeight = Number.isInteger(weight) && weight >= 1 && weight <= this.grid.weightMax;
    return isWeight ? { update, weight } : 'weight-out-of-range';
  }

  get #place(): { length: number; grid: GridSpec; sums: Accumulator } {
    return { length: this.length, grid: this.grid, sums: this.#sums };
  }

  /** Folds a block of updates of one kind; gives those whose block is bad, of which nothing is folded. */
  #foldBlock<W extends Weighted>(group: readonly W[], start: number, end: number): [W, UpdateFault][] {
    const bad: [W, UpdateFault][] = [];
    const weights: number[] = [];
    let kind: DenseFoldable['kind'] | undefined;
    for (const member of group) {
      const { update, weight } = member;
      const isSparse = update.kind === 'sparse';
      const fault = isSparse ? update.faultOfBlock(start, end) : update.place(weights.length, start, end);
      if (fault !== undefined) bad.push([member, fault]);
      else if (isSparse) update.fold(start, end, weight);
      else {
        weights.push(weight);
        kind = update.kind;
      }
    }
    const count = end - start;
    if (kind === 'float32') this.#sums.foldFloat32(start, count, 2 ** -this.grid.lsbExponent, weights);
    else if (kind === 'mxint') this.#sums.foldMxint(start, count, shiftBaseOf(this.grid), weights);
    return bad;
  }

  #takeBack({ update, weight }: Weighted, foldedTo: number): void {
    for (let start = 0; start < foldedTo; start += FOLD_VALUES) {
      this.#foldBlock([{ update, weight: -weight }], start, Math.min(start + FOLD_VALUES, foldedTo));
    }
  }
}

interface Weighted {
  update: Foldable;
  weight: number;
}

/** Bits that the terms of one fold may take together. */
const TERM_BITS = 51;

/** Updates in groups that are folded together: of one kind, as many as there are places, and of so much weight that no term is too large. */
function together<W extends Weighted>(updates: readonly W[], { lsbExponent, valueMaxExponent }: GridSpec): W[][] {
  const weightMax = 2 ** (TERM_BITS - (valueMaxExponent - lsbExponent));
  const groups: W[][] = [];
  for (const one of updates) {
    const last = groups.at(-1);
    const weight = last?.reduce((sum, member) => sum + member.weight, one.weight) ?? Infinity;
    const fits = last?.[0]?.update.kind === one.update.kind && last.length < PLACES && weight <= weightMax;
    if (last !== undefined && fits) last.push(one);
    else groups.push([one]);
  }
  return groups;
}

const accumulator = (length: number): Accumulator => wasmAccumulator(length) ?? plainAccumulator(length);

export const isSameGrid = (a: GridSpec, b: GridSpec): boolean =>
  a.lsbExponent === b.lsbExponent && a.valueMaxExponent === b.valueMaxExponent && a.weightMax === b.weightMax;
