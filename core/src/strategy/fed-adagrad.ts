import { adaptive, type AdaptiveOptions } from './adaptive.ts';
import type { Strategy } from './strategy.ts';

/** Adagrad on the server: v = v + Δ². Source: Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2. */
export function fedAdagrad({ beta1 = 0, ...options }: AdaptiveOptions = {}): Strategy {
  return adaptive('fedAdagrad', { beta1, ...options }, (before, deltaSquared) => before + deltaSquared);
}
