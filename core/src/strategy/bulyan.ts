import { bulyan as rule } from '../aggregation/robust/bulyan.ts';
import { requireWhole, robust, type RobustOptions } from './robust.ts';
import type { Strategy } from './strategy.ts';

/** Krum runs once for each update that it chooses. */
const UPDATES_MAX = 300;

/**
 * Krum chooses updates, and of these each parameter is a mean of the values near their median.
 * Source: El Mhamdi, Guerraoui, Rouault 2018, "The Hidden Vulnerability of Distributed Learning in Byzantium".
 */
export function bulyan({ attackers = 1, ...options }: { attackers?: number } & RobustOptions = {}): Strategy {
  requireWhole('bulyan', 'attackers', attackers, 0, Math.floor((UPDATES_MAX - 3) / 4));
  return robust('bulyan', (updates) => rule(updates, { attackers }), options, {
    updatesMin: 4 * attackers + 3,
    updatesMax: UPDATES_MAX,
  });
}
