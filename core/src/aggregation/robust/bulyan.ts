import { krumScores, squaredDistances } from './krum.ts';
import type { Rows } from './rows.ts';
import { eachBlock, type RobustAggregate, type UpdateBlocks } from './updates.ts';

/**
 * Krum chooses n − 2·attackers updates, one after the other; of these each parameter is the mean of the 2·attackers fewer values that
 * are nearest to their median. Source: El Mhamdi et al. 2018, "The Hidden Vulnerability of Distributed Learning in Byzantium", section 4.
 */
export function bulyan(updates: UpdateBlocks, { attackers }: { attackers: number }): RobustAggregate {
  const kept = chosenByKrum(updates, attackers);
  const near = Math.max(1, kept.length - 2 * attackers);
  const delta = new Float32Array(updates.length);
  eachBlock(
    updates,
    (rows, start, end) => {
      rows.sortColumns();
      for (let i = start; i < end; i++) delta[i] = meanNearMedian(rows, i - start, near);
    },
    kept,
  );
  return { delta, kept };
}

function chosenByKrum(updates: UpdateBlocks, attackers: number): number[] {
  const distance = squaredDistances(updates);
  let left = Array.from({ length: updates.count }, (_, update) => update);
  const chosen: number[] = [];
  while (chosen.length < Math.max(1, updates.count - 2 * attackers)) {
    const scores = krumScores(distance, left, attackers);
    const best = left[scores.indexOf(Math.min(...scores))] ?? 0;
    chosen.push(best);
    left = left.filter((update) => update !== best);
  }
  return chosen.sort((a, b) => a - b);
}

/** Values nearest to the median stand together in a sorted column: the farther end is dropped, the upper one of equals. */
function meanNearMedian({ values, width, count }: Rows, column: number, near: number): number {
  const at = (row: number): number => values[row * width + column] ?? 0;
  const median = (at((count - 1) >> 1) + at(count >> 1)) / 2;
  let low = 0;
  let high = count;
  while (high - low > near) {
    if (median - at(low) > at(high - 1) - median) low++;
    else high--;
  }
  let sum = 0;
  for (let row = low; row < high; row++) sum += at(row);
  return sum / near;
}
