import { plainRows } from './plain-rows.ts';
import type { Rows } from './rows.ts';
import { wasmRows } from './wasm-rows.ts';

/** The updates of a round, to be read as often as a rule needs, a range at a time, so that memory stays bounded. */
export interface UpdateBlocks {
  readonly count: number;
  /** Parameters of an update. */
  readonly length: number;
  /** How much each update counts, for the rules that weigh. */
  readonly weights: readonly number[];
  /** The one that the others are judged by, where the rule has such. */
  readonly root?: number;
  /** Values `start` to `end` (without) of an update; `start` is a multiple of 32. */
  read(update: number, start: number, end: number): Float32Array;
}

/** What a rule makes of the updates. */
export interface RobustAggregate {
  delta: Float32Array;
  /** Which updates are in it, ascending, where the rule chooses whole updates; otherwise all had a say. */
  kept?: readonly number[];
  /** What the rule remembers for the next round, where it does; the strategy gets it in place of what it remembered before. */
  memory?: readonly Float32Array[];
}

/** Makes the updates of a round one. `memory` is what the strategy remembered with the base, none at first. */
export type RobustRule = (updates: UpdateBlocks, memory: readonly Float32Array[]) => RobustAggregate;

/** Values of all updates together that are read in one go: 32 MiB of float32. */
const READ_VALUES = 2 ** 23;
/** Values of all updates together in one block: 256 KiB, which stays in the cache. */
const BLOCK_VALUES = 2 ** 16;
const BLOCK_WIDTH_MAX = 4096;
/** Values that share an exponent in MXINT8: ranges begin at a multiple. */
const ALIGNMENT = 32;

const aligned = (values: number): number => Math.max(ALIGNMENT, Math.floor(values / ALIGNMENT) * ALIGNMENT);

/** Reads ranges of all updates at once, in order. */
export function eachRange(
  updates: UpdateBlocks,
  visit: (ranges: readonly Float32Array[], start: number, end: number) => void,
): void {
  const { count, length } = updates;
  const width = aligned(READ_VALUES / count);
  for (let start = 0; start < length; start += width) {
    const end = Math.min(start + width, length);
    visit(
      Array.from({ length: count }, (_, update) => updates.read(update, start, end)),
      start,
      end,
    );
  }
}

/** Brings blocks of the updates named (all by default) side by side, in order; a block's last columns are 0 past the end. */
export function eachBlock(
  updates: UpdateBlocks,
  visit: (rows: Rows, start: number, end: number) => void,
  named: readonly number[] = Array.from({ length: updates.count }, (_, update) => update),
  rowsOf: (count: number, width: number) => Rows = fastestRows,
): Rows {
  const chosen: UpdateBlocks = {
    count: named.length,
    length: updates.length,
    weights: named.map((update) => updates.weights[update] ?? 0),
    read: (row, start, end) => updates.read(named[row] ?? 0, start, end),
  };
  const width = Math.min(aligned(BLOCK_VALUES / named.length), BLOCK_WIDTH_MAX);
  const rows = rowsOf(named.length, width);
  eachRange(chosen, (ranges, rangeStart, rangeEnd) => {
    for (let start = rangeStart; start < rangeEnd; start += width) {
      const end = Math.min(start + width, rangeEnd);
      for (const [row, range] of ranges.entries()) {
        rows.values.set(range.subarray(start - rangeStart, end - rangeStart), row * width);
        rows.values.fill(0, row * width + end - start, (row + 1) * width);
      }
      visit(rows, start, end);
    }
  });
  return rows;
}

const fastestRows = (count: number, width: number): Rows => wasmRows(count, width) ?? plainRows(count, width);
