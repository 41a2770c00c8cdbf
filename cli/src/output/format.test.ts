import { expect, test } from 'vitest';
import { bar, bytes, clock, sparkline, table } from './format.ts';

test('bytes have three digits or so', () => {
  expect([0, 999, 1234, 999_600, 12_345_678n].map(bytes)).toEqual(['0 B', '999 B', '1.2 kB', '1.0 MB', '12.3 MB']);
});

test('a clock shows minutes and seconds', () =>
  expect([0, 9_999, 75_200].map(clock)).toEqual(['0:00', '0:09', '1:15']));

test('a sparkline goes from the lowest bar to the highest', () => expect(sparkline([0, 0.5, 1, 2], 0, 1)).toBe('▁▅██'));

test('a bar of nothing is empty', () =>
  expect([bar(0, 0, 4), bar(1, 2, 4), bar(9, 2, 4)]).toEqual(['░░░░', '██░░', '████']));

test('columns line up', () => expect(table(['a', 'bb'], [['long', 'x']])).toBe('a     bb\nlong  x'));
