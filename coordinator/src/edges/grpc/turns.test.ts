import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Turns } from './turns.ts';

test('never more at once than there are turns, everybody has one in the end, and in order', () => {
  const steps = fc.array(fc.oneof(fc.constant('ask' as const), fc.nat(30)), { maxLength: 60 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), steps, (atOnce, asked) => {
      const turns = new Turns(atOnce);
      const begun: number[] = [];
      const ends: (() => void)[] = [];
      const over = new Set<number>();
      const end = (number: number): void => {
        // Who gave up in the line has no turn any more.
        over.add(number);
        ends[number]?.();
      };
      for (const step of asked) {
        if (step === 'ask') {
          const number = ends.length;
          ends.push(turns.ask(() => begun.push(number)));
        } else if (step < ends.length) end(step);
        const atWork = begun.filter((number) => !over.has(number)).length;
        expect(atWork).toBe(Math.min(atOnce, ends.length - over.size));
      }
      for (const number of ends.keys()) end(number);
      expect(begun).toEqual([...new Set(begun)].toSorted((a, b) => a - b));
      turns.ask(() => begun.push(-1));
      expect(begun.at(-1)).toBe(-1);
    }),
  );
});
