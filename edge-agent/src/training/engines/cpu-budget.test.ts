import { availableParallelism } from 'node:os';
import { expect, test } from 'vitest';
import { cpuBudget, physicalCores } from './cpu-budget.ts';

const cores = physicalCores();

test('without a word one core stays free, where there is more than one', () => {
  expect(cores).toBeGreaterThanOrEqual(1);
  expect(cores).toBeLessThanOrEqual(availableParallelism());
  expect(cpuBudget()).toEqual({ threads: Math.max(1, cores - 1), busy: 1 });
  expect(cpuBudget({ threads: 3 })).toEqual({ threads: 3, busy: 1 });
});

test('a share is of all cores, and the threads that it takes rest for what is too much', () => {
  expect(cpuBudget({ share: 1 })).toEqual({ threads: cores, busy: 1 });
  const { threads, busy } = cpuBudget({ share: 0.3 });
  expect(threads * busy).toBeCloseTo(0.3 * cores, 10);
  expect(cpuBudget({ share: 0.5 / cores })).toEqual({ threads: 1, busy: 0.5 });
  expect(cpuBudget({ share: 0.5 / cores, threads: 2 })).toEqual({ threads: 2, busy: 0.25 });
});
