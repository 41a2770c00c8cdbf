import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EventStreamParser, type ServerEvent } from './event-stream.ts';

const parse = (...texts: string[]): ServerEvent[] => {
  const parser = new EventStreamParser();
  return texts.flatMap((text) => parser.push(new TextEncoder().encode(text)));
};

test('an event has a name, data and the id of the last one that had one', () => {
  expect(parse('id: 7\nevent: release\ndata: {"version":7}\n\ndata: more\n\n')).toEqual([
    { name: 'release', data: '{"version":7}', id: '7' },
    { name: 'message', data: 'more', id: '7' },
  ]);
});

test('comments, unknown fields and events without data give nothing', () => {
  expect(parse(': \n\nretry: 1000\n: heartbeat\n\nevent: release\n\nid\n\n')).toEqual([]);
});

test('data may have several lines', () => {
  expect(parse('data: a\ndata:b\ndata\n\n')[0]?.data).toBe('a\nb\n');
});

test('an event that has not ended is not told', () => expect(parse('data: 1\n')).toEqual([]));

test('a line without end is refused, in one piece or in many', () => {
  expect(() => parse(`data: ${'x'.repeat(70_000)}`)).toThrow(RangeError);
  expect(() => parse(...Array.from({ length: 70 }, () => `data: ${'x'.repeat(1000)}\n`))).toThrow(RangeError);
});

test('it does not matter where the bytes are cut, nor how lines end', () => {
  const line = fc.string({ unit: fc.constantFrom('a', 'é', '🙂', ' ', ':'), maxLength: 8 });
  fc.assert(
    fc.property(
      fc.array(fc.array(line, { minLength: 1, maxLength: 3 }), { maxLength: 4 }),
      fc.constantFrom('\n', '\r', '\r\n'),
      fc.array(fc.nat({ max: 200 }), { maxLength: 6 }),
      (events, end, cuts) => {
        const text = events.map((lines) => `${lines.map((one) => `data: ${one}${end}`).join('')}${end}`).join('');
        // A last CR may be the first half of an end: something follows it.
        const bytes = new TextEncoder().encode(`${text}:`);
        const at = [0, ...cuts.filter((cut) => cut < bytes.length).toSorted((a, b) => a - b), bytes.length];
        const parser = new EventStreamParser();
        const heard = at.slice(1).flatMap((to, i) => parser.push(bytes.subarray(at[i], to)));
        expect(heard.map(({ data }) => data)).toEqual(events.map((lines) => lines.join('\n')));
      },
    ),
  );
});
