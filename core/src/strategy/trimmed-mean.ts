import { trimmedMean as rule } from '../aggregation/robust/order-statistics.ts';
import { ConfigError } from '../errors.ts';
import { robust, type RobustOptions } from './robust.ts';
import type { Strategy } from './strategy.ts';

/**
 * The mean of each parameter without the share `trim` of its smallest and of its largest values.
 * Source: Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates".
 */
export function trimmedMean({ trim = 0.2, ...options }: { trim?: number } & RobustOptions = {}): Strategy {
  if (!(trim > 0 && trim < 0.5)) {
    throw new ConfigError(`strategy.trim is ${trim}: give a share above 0 and below 0.5`, 'strategy.trim');
  }
  // With fewer nothing would be trimmed.
  return robust('trimmedMean', (updates) => rule(updates, trim), options, {
    updatesMin: Math.max(3, Math.ceil(1 / trim - 1e-9)),
  });
}
