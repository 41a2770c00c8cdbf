import { trustedMean } from '../aggregation/robust/trusted-mean.ts';
import { robust, type RobustOptions } from './robust.ts';
import type { Strategy } from './strategy.ts';

/**
 * The mean of the updates, each as long as the one of an evaluator with data that are known to be good, and as heavy as it points where
 * that does: holds against any number of attackers. A task names its evaluators (`--evaluator`), and one of them trains in every round.
 * Source: Cao, Fang, Liu, Gong 2021, "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping".
 */
export function flTrust(options: RobustOptions = {}): Strategy {
  return robust('flTrust', trustedMean, options, { needsRoot: true });
}
