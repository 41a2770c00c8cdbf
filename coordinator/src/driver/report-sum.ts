import { ExactSum, type GridSpec, type UpdateFault } from '@commonweight/core';
import type { UpdateHeader } from '@commonweight/proto';
import type { Counted, FoldedSum } from './round-sum.ts';
import { hex } from './task-work.ts';

/** What one coordinator has of a round of reports: the exact sum of their whole numbers, each report counting once. */
export class ReportSum implements FoldedSum {
  readonly seesEach = false;
  readonly length: number;
  readonly #sum: ExactSum;
  #counted = new Map<string, Counted>();

  constructor(length: number, grid: GridSpec) {
    this.length = length;
    this.#sum = new ExactSum(length, grid);
  }

  get counted(): ReadonlyMap<string, Counted> {
    return this.#counted;
  }

  weigh(): number {
    return 1;
  }

  async fold({ updateId }: UpdateHeader, payload: Uint8Array, counted: Counted): Promise<UpdateFault | undefined> {
    const fault = this.#sum.add('float32', payload, 1);
    if (fault === undefined) this.#counted.set(hex(updateId), counted);
    return fault;
  }

  /** Where only the sum is needed nobody asks. */
  toRow(_: UpdateHeader, payload: Uint8Array): Uint8Array {
    return payload;
  }

  async foldRow(): Promise<void> {}

  takeOut({ updateId }: UpdateHeader, payload: Uint8Array): void {
    this.#sum.remove('float32', payload, 1);
    this.#counted.delete(hex(updateId));
  }

  toBytes(): Uint8Array {
    return this.#sum.toBytes();
  }

  resume(part: Uint8Array, counted: ReadonlyMap<string, Counted>): void {
    this.reset();
    this.add(part);
    this.#counted = new Map(counted);
  }

  add(part: Uint8Array): void {
    this.#sum.merge(ExactSum.fromBytes(part));
  }

  addPart(part: Uint8Array, counted: ReadonlyMap<string, Counted>): void {
    this.add(part);
    for (const [id, { weight, metrics }] of counted) this.#counted.set(id, { weight, metrics });
  }

  reset(): void {
    this.#sum.reset();
    this.#counted = new Map();
  }

  /** The sums of all whole numbers, the parts of others among them. */
  totals(): BigInt64Array {
    return this.#sum.totals();
  }

  async close(): Promise<void> {}
}
