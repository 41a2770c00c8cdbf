import { CodecError, invariant } from '../errors.ts';
import { encodings, type EncodingName } from '../weights/encoding.ts';
import type { GridSpec } from '../weights/grid.ts';
import { mxBlocks, MX_BLOCK, MX_EXPONENT_BIAS, MX_FRACTION_BITS } from '../weights/mxint.ts';
import { FOLD_VALUES, type Accumulator } from './accumulator.ts';
import { plainAccumulator } from './plain-accumulator.ts';
import { wasmAccumulator } from './wasm-accumulator.ts';

/** Why an update cannot be part of a sum. */
export type UpdateFault = 'wrong-size' | 'not-finite' | 'value-too-large' | 'off-grid' | 'weight-out-of-range';

/** An update as the sum sees it. */
export interface WeightedPayload {
  encoding: EncodingName;
  payload: Uint8Array;
  weight: number;
}

const INFINITY_BITS = 0x7f800000;
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
    this.#takeBack({ encoding, payload, weight }, this.length);
    this.#count--;
    this.#totalWeight -= weight;
  }

  /** Adds several updates, block by block, so that the accumulators stay in the cache; a fault removes only its update. */
  addAll(updates: readonly WeightedPayload[]): (UpdateFault | undefined)[] {
    const faults = updates.map((update) => this.#faultOfFrame(update));
    const foldedTo = updates.map(() => 0);
    for (let start = 0; start < this.length; start += FOLD_VALUES) {
      const end = Math.min(start + FOLD_VALUES, this.length);
      for (const [i, update] of updates.entries()) {
        if (faults[i] !== undefined) continue;
        faults[i] = this.#faultOfBlock(update, start, end);
        if (faults[i] !== undefined) continue;
        this.#fold(update, start, end, update.weight);
        foldedTo[i] = end;
      }
    }
    for (const [i, update] of updates.entries()) {
      if (faults[i] === undefined) this.#counted(update.weight);
      else this.#takeBack(update, foldedTo[i] ?? 0);
    }
    return faults;
  }

  /** Adds another sum over the same grid. */
  merge(other: ExactSum): void {
    invariant(other.length === this.length, 'sums of one model have one length');
    invariant(sameGrid(other.grid, this.grid), 'sums of one round have one grid');
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
    const { words } = this.#sums;
    const step = 2 ** this.grid.lsbExponent;
    const mean = new Float32Array(this.length);
    for (let i = 0; i < this.length; i++) {
      const sum = (words[2 * i + 1] ?? 0) * 2 ** 32 + ((words[2 * i] ?? 0) >>> 0);
      mean[i] = (sum / this.#totalWeight) * step;
    }
    return mean;
  }

  /** The sums themselves, in steps of the grid. */
  totals(): BigInt64Array {
    const { words } = this.#sums;
    return new BigInt64Array(words.slice(0, 2 * this.length).buffer);
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

  #faultOfFrame({ encoding, payload, weight }: WeightedPayload): UpdateFault | undefined {
    if (payload.length !== encodings[encoding].byteLength(this.length)) return 'wrong-size';
    if (!Number.isInteger(weight) || weight < 1 || weight > this.grid.weightMax) return 'weight-out-of-range';
    if (encoding === 'float32') return undefined;
    const exponentMin = this.grid.lsbExponent + MX_FRACTION_BITS + MX_EXPONENT_BIAS;
    // An element reaches -128 (or -8), that is -2 x 2^exponent.
    const exponentMax = this.grid.valueMaxExponent - 1 + MX_EXPONENT_BIAS;
    for (const exponent of payload.subarray(0, mxBlocks(this.length))) {
      if (exponent < exponentMin) return 'off-grid';
      if (exponent > exponentMax) return exponent === 0xff ? 'not-finite' : 'value-too-large';
    }
    return undefined;
  }

  #faultOfBlock({ encoding, payload }: WeightedPayload, start: number, end: number): UpdateFault | undefined {
    if (encoding !== 'float32') return undefined;
    const largest = this.#sums.largestMagnitude(payload.subarray(4 * start, 4 * end));
    if (largest >= INFINITY_BITS) return 'not-finite';
    return largest > float32Bits(2 ** this.grid.valueMaxExponent) ? 'value-too-large' : undefined;
  }

  #fold({ encoding, payload }: WeightedPayload, start: number, end: number, weight: number): void {
    if (encoding === 'float32') {
      this.#sums.foldFloat32(start, payload.subarray(4 * start, 4 * end), 2 ** -this.grid.lsbExponent, weight);
      return;
    }
    const exponents = payload.subarray(start / MX_BLOCK, mxBlocks(end));
    const elements = payload.subarray(mxBlocks(this.length));
    const shiftBase = -MX_EXPONENT_BIAS - MX_FRACTION_BITS - this.grid.lsbExponent;
    if (encoding === 'mxint8') {
      this.#sums.foldMxint8(start, exponents, elements.subarray(start, end), weight, shiftBase);
    } else {
      const halves = elements.subarray(start / 2, Math.ceil(end / 2));
      this.#sums.foldMxint4(start, end - start, exponents, halves, weight, shiftBase);
    }
  }

  /** Integers come off exactly as they went on, so no second pass over good updates is needed to check them first. */
  #takeBack(update: WeightedPayload, foldedTo: number): void {
    for (let start = 0; start < foldedTo; start += FOLD_VALUES) {
      this.#fold(update, start, Math.min(start + FOLD_VALUES, foldedTo), -update.weight);
    }
  }
}

const accumulator = (length: number): Accumulator => wasmAccumulator(length) ?? plainAccumulator(length);

const sameGrid = (a: GridSpec, b: GridSpec): boolean =>
  a.lsbExponent === b.lsbExponent && a.valueMaxExponent === b.valueMaxExponent && a.weightMax === b.weightMax;

const float32Bits = (value: number): number => new Uint32Array(new Float32Array([value]).buffer)[0] ?? 0;
