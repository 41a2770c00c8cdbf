import { asynchronously, parseAsynchronous, type Asynchronous } from './asynchronous.ts';
import { fedAvgM } from './fed-avg-m.ts';
import { fedAvg } from './fed-avg.ts';
import type { Strategy } from './strategy.ts';

interface FedBuffOptions extends Partial<Asynchronous> {
  serverLearningRate?: number;
  serverMomentum?: number;
}

/**
 * Asynchronous: every `bufferSize` updates make a version, each discounted by (1 + s)^-exponent for the s versions that it is behind, or
 * by a hinge; w = w + η·Σ discount·Δ / K. Source: Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation".
 */
export function fedBuff({
  bufferSize = 10,
  stalenessMax = 20,
  serverLearningRate = 1,
  serverMomentum = 0,
  ...discount
}: FedBuffOptions = {}): Strategy {
  const server = serverMomentum > 0 ? fedAvgM({ serverLearningRate, serverMomentum }) : fedAvg({ serverLearningRate });
  return {
    ...asynchronously(server, parseAsynchronous({ bufferSize, stalenessMax, ...discount }, 'strategy')),
    name: 'fedBuff',
  };
}
