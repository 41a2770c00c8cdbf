import { asynchronously, parseAsynchronous, type Asynchronous } from './asynchronous.ts';
import { fedAvg } from './fed-avg.ts';
import type { Strategy } from './strategy.ts';

interface FedAsyncOptions extends Partial<Omit<Asynchronous, 'bufferSize'>> {
  serverLearningRate?: number;
}

/**
 * Asynchronous: every update makes a version, w = w + α·discount·Δ. It adds the update's change to the newest version, where the paper
 * mixes whole models; on a fresh base both are the same. Source: Xie, Koyejo, Gupta 2019, "Asynchronous Federated Optimization".
 */
export function fedAsync({ stalenessMax = 20, serverLearningRate = 0.6, ...discount }: FedAsyncOptions = {}): Strategy {
  const policy = parseAsynchronous({ bufferSize: 1, stalenessMax, ...discount }, 'strategy');
  return { ...asynchronously(fedAvg({ serverLearningRate }), policy), name: 'fedAsync' };
}
