import { expect, test } from 'vitest';
import { fetched, noDownloads } from './downloads.ts';

const bytes = (steps: number[], held: Record<string, number>, version: number): number =>
  fetched({ steps, held }, [7], version, 100).bytes;

test('a client fetches weights whole at first, then the steps from what it has, where they are fewer bytes', () => {
  const first = fetched(noDownloads, [1, 2], 1, 100);
  expect(first).toEqual({ bytes: 200, downloads: { steps: [], held: { 1: 1, 2: 1 } } });
  expect(bytes([5], { 7: 1 }, 2)).toBe(5);
  expect(bytes([5, 6, 7], { 7: 1 }, 4)).toBe(18);
  expect(bytes([5, 6, 7], { 7: 3 }, 4)).toBe(7);
  expect(bytes([5, 6, 7], { 7: 4 }, 4)).toBe(0);
  expect(bytes([50, 51], { 7: 1 }, 3)).toBe(100);
  // One version on the way has no step, or there are more of them than a manifest knows.
  expect(bytes([5, 0, 7], { 7: 1 }, 4)).toBe(100);
  expect(bytes([5, 0, 7], { 7: 3 }, 4)).toBe(7);
  expect(bytes(Array<number>(16).fill(1), { 7: 1 }, 17)).toBe(16);
  expect(bytes(Array<number>(17).fill(1), { 7: 1 }, 18)).toBe(100);
});
