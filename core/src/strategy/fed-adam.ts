import { adaptive, type AdaptiveOptions } from './adaptive.ts';
import type { Strategy } from './strategy.ts';

/** Adam on the server: v = β₂·v + (1−β₂)·Δ². Source: Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2. */
export function fedAdam({ beta2 = 0.99, ...options }: AdaptiveOptions & { beta2?: number } = {}): Strategy {
  return adaptive('fedAdam', options, (before, deltaSquared) => beta2 * before + (1 - beta2) * deltaSquared);
}
