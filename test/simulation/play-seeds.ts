import { describe, expect, test } from 'vitest';
import { simulate } from './cluster.ts';

const BATCH = 100;
const HOUR_MS = 3_600_000;

/** Tests that play every second of some seeds, an hour each. Two files share them, so that two workers do. */
export function playEverySecond(first: number, last: number): void {
  describe('whole clusters in bad weather', { timeout: 1_800_000 }, () => {
    const batches = Array.from(
      { length: Math.ceil((last - first + 1) / (2 * BATCH)) },
      (_, i) => first + 2 * i * BATCH,
    );
    test.each(batches)(`lose nothing and count nothing twice: ${BATCH} seeds from %i`, async (from) => {
      let [crashes, parts] = [0, 0];
      for (let seed = from; seed < Math.min(from + 2 * BATCH, last + 1); seed += 2) {
        const report = await simulate(seed).catch((cause: Error) => {
          throw new Error(`seed ${seed}: ${cause.message} (npm run simulate -- --seed ${seed} --trace)`, { cause });
        });
        expect(report.versions).toBeGreaterThan(5);
        expect(report.simulatedMs).toBeGreaterThan(HOUR_MS);
        crashes += report.crashes;
        parts += report.parts;
      }
      // A storm that breaks nothing would prove nothing.
      expect(crashes).toBeGreaterThan(10 * BATCH);
      expect(parts).toBeGreaterThan(0);
    });
  });
}
