import type { GridSpec } from '../weights/grid.ts';
import { invariant } from '../errors.ts';
import { digitsFor, readDigits, writeDigits } from './digits.ts';

/** What float32 holds exactly, as a power of two: the largest count of one report. */
const VALUE_MAX_EXPONENT = 24;

/** The grid on which reports are summed: whole numbers, each report counting once. */
export const reportGrid = (cohortMax: number): GridSpec => ({
  lsbExponent: 0,
  valueMaxExponent: VALUE_MAX_EXPONENT,
  weightMax: 1,
  cohortMax,
});

/** Examples of one agent that a report speaks for: a count of them is one value. */
export const REPORTED_EXAMPLES_MAX: number = 2 ** VALUE_MAX_EXPONENT;

/** A whole number of a report, or a row of counts. */
export type Slot =
  /** Counts of up to so many bits each. */
  | { name: string; counts: number; bits: number }
  /** A number of up to so many bits, of either sign. */
  | { name: string; bits: number };

interface Place {
  at: number;
  /** Numbers, and values of each. */
  count: number;
  digits: number;
}

/** The order of the numbers in a report: what agents write and what the sum of all reports is read by. */
export class ReportLayout {
  /** Values of a report. */
  readonly length: number;
  readonly #places = new Map<string, Place>();

  constructor(slots: Iterable<Slot>) {
    let at = 0;
    for (const slot of slots) {
      invariant(!this.#places.has(slot.name), 'slots have names of their own');
      // What float32 holds needs no digits.
      const digits = 'counts' in slot && slot.bits <= VALUE_MAX_EXPONENT ? 1 : digitsFor(slot.bits);
      const count = 'counts' in slot ? slot.counts : 1;
      this.#places.set(slot.name, { at, digits, count });
      at += count * digits;
    }
    this.length = at;
  }

  /** A report without anything in it. */
  empty(): Float32Array {
    return new Float32Array(this.length);
  }

  putNumber(report: Float32Array, name: string, number: bigint): void {
    const { at, digits } = this.#place(name);
    writeDigits(report, at, digits, number);
  }

  putCounts(report: Float32Array, name: string, counts: ArrayLike<number>): void {
    const { at, count, digits } = this.#place(name);
    invariant(counts.length === count, 'a row of counts is as long as its slot');
    if (digits === 1) return report.set(counts, at);
    for (let i = 0; i < count; i++) writeDigits(report, at + i * digits, digits, BigInt(counts[i] ?? 0));
  }

  /** A number of the sum of reports. */
  number(sums: BigInt64Array, name: string): bigint {
    const { at, digits } = this.#place(name);
    return readDigits(sums, at, digits);
  }

  /** A row of counts of the sum of reports. */
  counts(sums: BigInt64Array, name: string): number[] {
    const { at, count, digits } = this.#place(name);
    if (digits === 1) return Array.from(sums.subarray(at, at + count), Number);
    return Array.from({ length: count }, (_, i) => Number(readDigits(sums, at + i * digits, digits)));
  }

  #place(name: string): Place {
    const place = this.#places.get(name);
    invariant(place !== undefined, 'a layout knows its slots');
    return place;
  }
}
