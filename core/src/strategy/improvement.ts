import type { ExactSum } from '../aggregation/exact-sum.ts';
import type { RobustAggregate } from '../aggregation/robust/updates.ts';
import { invariant } from '../errors.ts';
import { packedLength, unpack, type UpdateShape } from '../weights/packed.ts';
import { meantBy, type UpdateFormat } from '../weights/update-format.ts';
import type { Improvement, Strategy } from './strategy.ts';

/** A version, as the round that improves it sees it. */
interface Base {
  weights: Float32Array;
  memory: readonly Float32Array[];
}

/** What a strategy makes of the sum of a round's updates. */
export function improvedBySum(
  strategy: Strategy,
  { weights, memory }: Base,
  sum: ExactSum,
  { shape, format }: { shape: UpdateShape; format: UpdateFormat },
): Improvement {
  const packed = meantBy(sum.mean(), format, packedLength(shape, weights.length, sum.grid));
  const { vectors, numbers } = unpack(packed, shape, weights.length, sum.grid);
  const [delta, ...more] = vectors;
  invariant(delta !== undefined, 'an update has a delta');
  return strategy.improve(weights, delta, memory, {
    updates: sum.count,
    weight: sum.totalWeight,
    vectors: more,
    numbers,
  });
}

/** What a strategy makes of what its rule found in a round's updates. */
export function improvedByRule(
  strategy: Strategy,
  { weights, memory }: Base,
  aggregate: RobustAggregate,
  { updates, weight }: { updates: number; weight: number },
): Improvement {
  const round = { updates, weight, vectors: [], numbers: [] };
  return strategy.improve(weights, aggregate.delta, aggregate.memory ?? memory, round);
}
