import { adaptive, type AdaptiveOptions } from './adaptive.ts';
import type { Strategy } from './strategy.ts';

/** Yogi on the server: v = v − (1−β₂)·Δ²·sign(v − Δ²). Source: Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2. */
export function fedYogi({ beta2 = 0.99, ...options }: AdaptiveOptions & { beta2?: number } = {}): Strategy {
  return adaptive(
    'fedYogi',
    options,
    (before, deltaSquared) => before - (1 - beta2) * deltaSquared * Math.sign(before - deltaSquared),
  );
}
