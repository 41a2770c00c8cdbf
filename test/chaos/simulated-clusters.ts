import { simulate } from '../simulation/cluster.ts';
import type { Section } from './section.ts';

/** Seeds that are played whatever the time. */
const SEEDS_MIN = 30;
/** Where there is time for it, every so many seeds one has a storm of an hour. */
const LONG_EVERY = 50;
const HOUR_MS = 3_600_000;

/** Whole clusters on virtual time, one seed after the other. */
export const simulatedClusters: Section = {
  name: 'simulated-clusters',
  share: 24,
  lacks: async () => undefined,
  run: async ({ seed, minutes, log }) => {
    const endMs = Date.now() + 60_000 * minutes;
    const violations: string[] = [];
    const figures = {
      seeds: 0,
      hours: 0,
      versions: 0,
      updates: 0,
      lost: 0,
      doubled: 0,
      crashes: 0,
      simulated_hours: 0,
    };
    for (let next = seed; next < seed + SEEDS_MIN || Date.now() < endMs; next++) {
      const isLong = minutes > 0 && next % LONG_EVERY === 0;
      try {
        const report = await simulate(next, isLong ? { storms: 1, stormMs: HOUR_MS } : {});
        if (isLong) figures.hours += 1;
        figures.versions += report.versions;
        figures.updates += report.contributions;
        figures.crashes += report.crashes;
        figures.simulated_hours += report.simulatedMs / 3.6e6;
      } catch (error) {
        violations.push(
          `${(error as Error).message} (npm run simulate -- --seed ${next}${isLong ? ' --minutes 60' : ''} --trace)`,
        );
      }
      if ((figures.seeds += 1) % 250 === 0) log(`${figures.seeds} seeds, ${violations.length} failed`);
    }
    figures.lost = violations.filter((text) => text.includes('is lost')).length;
    figures.doubled = violations.filter((text) => text.includes('is in versions')).length;
    return { figures, violations };
  },
};
