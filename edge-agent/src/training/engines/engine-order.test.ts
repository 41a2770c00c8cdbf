import { expect, test } from 'vitest';
import { EngineOrder } from './engine-order.ts';

const MINUTE = 60_000;

test('an engine that failed stands aside, twice as long each time, and one that works again begins anew', () => {
  const order = new EngineOrder(['ort-cuda', 'ort-cpu']);
  expect(order.next(0)).toBe('ort-cuda');
  expect(order.failed('ort-cuda', 0)).toBe(10 * MINUTE);
  expect(order.next(10 * MINUTE - 1)).toBe('ort-cpu');
  expect(order.next(10 * MINUTE)).toBe('ort-cuda');
  expect(order.failed('ort-cuda', 10 * MINUTE)).toBe(20 * MINUTE);
  expect(order.next(29 * MINUTE)).toBe('ort-cpu');
  order.worked('ort-cuda');
  expect(order.next(29 * MINUTE)).toBe('ort-cuda');
  expect(order.failed('ort-cuda', 30 * MINUTE)).toBe(10 * MINUTE);
});

test('where all have failed, the one whose time is over first is tried, and a day is the longest', () => {
  const order = new EngineOrder(['ort-cuda', 'ort-cpu']);
  for (let times = 0; times < 20; times++) order.failed('ort-cuda', 0);
  expect(order.failed('ort-cuda', 0)).toBe(24 * 60 * MINUTE);
  order.failed('ort-cpu', MINUTE);
  expect(order.next(2 * MINUTE)).toBe('ort-cpu');
});
