import { invariant } from '../../errors.ts';
import { combine } from './combination.ts';
import { eachRange, type RobustAggregate, type UpdateBlocks } from './updates.ts';

/**
 * The mean of the updates, each as long as the root's and as heavy as it points where that does: max(0, cos). Where none does nothing
 * changes. Source: Cao, Fang, Liu, Gong 2021, "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping", algorithm 2.
 */
export function trustedMean(updates: UpdateBlocks): RobustAggregate {
  const { root } = updates;
  invariant(root !== undefined, 'there is an update that the others are judged by');
  const { dots, norms } = againstRoot(updates, root);
  const trust = dots.map((dot, update) => (update === root || dot <= 0 ? 0 : dot / (norms[update]! * norms[root]!)));
  const total = trust.reduce((sum, one) => sum + one, 0);
  const kept = trust.flatMap((one, update) => (one > 0 ? [update] : []));
  if (total === 0) return { delta: new Float32Array(updates.length), kept };
  const shares = trust.map((one, update) => (one > 0 ? ((one / total) * norms[root]!) / norms[update]! : 0));
  return { delta: combine(updates, { shares }).point, kept };
}

/** The product of every update with the root's, and the lengths of all. */
function againstRoot(updates: UpdateBlocks, root: number): { dots: number[]; norms: number[] } {
  const [dots, squares] = [new Float64Array(updates.count), new Float64Array(updates.count)];
  eachRange(updates, (ranges) => {
    const own = ranges[root]!;
    for (const [update, values] of ranges.entries()) {
      let [dot, square] = [0, 0];
      for (let i = 0; i < values.length; i++) {
        const value = values[i]!;
        dot += value * own[i]!;
        square += value * value;
      }
      dots[update]! += dot;
      squares[update]! += square;
    }
  });
  return { dots: [...dots], norms: Array.from(squares, Math.sqrt) };
}
