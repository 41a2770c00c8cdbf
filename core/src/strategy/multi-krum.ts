import { multiKrum as rule } from '../aggregation/robust/krum.ts';
import { PAIRED_UPDATES_MAX, requireWhole, robust, type RobustOptions } from './robust.ts';
import type { Strategy } from './strategy.ts';

/**
 * The mean of the `keep` updates with the best Krum scores: by default all but as many as there may be attackers.
 * Source: Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", section 4.
 */
export function multiKrum({
  attackers = 1,
  keep,
  ...options
}: { attackers?: number; keep?: number } & RobustOptions = {}): Strategy {
  requireWhole('multiKrum', 'attackers', attackers, 0, (PAIRED_UPDATES_MAX - 3) / 2);
  if (keep !== undefined) requireWhole('multiKrum', 'keep', keep, 1, PAIRED_UPDATES_MAX - attackers);
  return robust(
    'multiKrum',
    (updates) => rule(updates, { attackers, keep: keep ?? updates.count - attackers }),
    options,
    { updatesMin: Math.max(2 * attackers + 3, (keep ?? 0) + attackers), updatesMax: PAIRED_UPDATES_MAX },
  );
}
