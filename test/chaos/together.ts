import { quantilesOf } from './quantiles.ts';
import type { SectionReport } from './section.ts';

/** What one of several runs of a section brings. */
export interface Run {
  /** Added up over the runs. */
  counts: Readonly<Record<string, number>>;
  /** How much there was to try: the largest of the runs. */
  sizes?: Readonly<Record<string, number>>;
  /** By what took so long: the quantiles are those of all runs together. */
  timesMs: Readonly<Record<string, readonly number[]>>;
  violations: readonly string[];
}

/** One report of runs that went on at the same time. */
export function together(runs: readonly Run[]): SectionReport {
  const figures: Record<string, number> = {};
  for (const { counts, sizes = {} } of runs) {
    for (const [name, count] of Object.entries(counts)) figures[name] = (figures[name] ?? 0) + count;
    for (const [name, size] of Object.entries(sizes)) figures[name] = Math.max(figures[name] ?? 0, size);
  }
  for (const what of new Set(runs.flatMap(({ timesMs }) => Object.keys(timesMs)))) {
    const all = runs.flatMap(({ timesMs }) => timesMs[what] ?? []);
    Object.assign(figures, quantilesOf(what, all));
  }
  return { figures, violations: runs.flatMap(({ violations }) => violations) };
}
