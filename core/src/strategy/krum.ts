import { multiKrum as rule } from '../aggregation/robust/krum.ts';
import { PAIRED_UPDATES_MAX, requireWhole, robust, type RobustOptions } from './robust.ts';
import type { Strategy } from './strategy.ts';

/**
 * The one update whose nearest neighbours are nearest, given that at most `attackers` updates are hostile.
 * Source: Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent".
 */
export function krum({ attackers = 1, ...options }: { attackers?: number } & RobustOptions = {}): Strategy {
  requireWhole('krum', 'attackers', attackers, 0, (PAIRED_UPDATES_MAX - 3) / 2);
  return robust('krum', (updates) => rule(updates, { attackers, keep: 1 }), options, {
    updatesMin: 2 * attackers + 3,
    updatesMax: PAIRED_UPDATES_MAX,
  });
}
