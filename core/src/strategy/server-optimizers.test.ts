import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { strategies, strategyFrom, type Strategy } from './strategy.ts';

/** Of one local step each. */
const ROUND = { updates: 2, weight: 2, vectors: [], numbers: [1] };
/** Of updates that count as much as any, whatever that is in a strategy's numbers. */
const roundOf = (strategy: Strategy) => ({ ...ROUND, weight: 2 * strategy.weigh(1, 1_000_000) });

/** Weights after each round of a constant mean delta, all parameters alike. */
function run(strategy: Strategy, { start, delta, rounds }: { start: number; delta: number; rounds: number }): number[] {
  let weights = Float32Array.of(start, start);
  let memory: readonly Float32Array[] = [];
  const seen: number[] = [];
  for (let round = 0; round < rounds; round++) {
    ({ weights, memory } = strategy.improve(weights, Float32Array.of(delta, delta), memory, ROUND) as {
      weights: Float32Array<ArrayBuffer>;
      memory: readonly Float32Array[];
    });
    expect(weights[0]).toBe(weights[1]);
    seen.push(weights[0] ?? Number.NaN);
  }
  return seen;
}

const close = (values: readonly number[], expected: readonly number[]): void => {
  expect(values.length).toBe(expected.length);
  for (const [i, value] of values.entries()) expect(value).toBeCloseTo(expected[i] ?? Number.NaN, 6);
};

describe('known answers', () => {
  // Two agents at .2 and 1.0 from a base of .1 with equal weights: a mean delta of .5.
  const step = { start: 0.1, delta: 0.5, rounds: 1 };

  test('fedAdagrad, Reddi et al. 2021, algorithm 2, with β₁ = 0.9 and v₋₁ = τ²', () => {
    close(run(strategyFrom({ name: 'fedAdagrad', beta1: 0.9 }), step), [0.10998002]);
  });

  test("fedAdagrad with β₁ = 0, τ = 0.5 and v₋₁ = 0: the value that Flower's test publishes", () => {
    close(run(strategyFrom({ name: 'fedAdagrad', tau: 0.5, firstSecondMoment: 0 }), step), [0.15]);
  });

  test('fedAdam and fedYogi, Reddi et al. 2021, algorithm 2', () => {
    close(run(strategyFrom({ name: 'fedAdam' }), step), [0.19802019]);
    close(run(strategyFrom({ name: 'fedYogi' }), step), [0.1980198]);
    // The same with the second moment begun at 0.
    close(run(strategyFrom({ name: 'fedYogi', serverLearningRate: 0.01 }), step), [0.10980198]);
  });

  test('fedAvgM: a constant gradient of 2 at a rate of .01, the values of a momentum of .5', () => {
    const momentum = strategyFrom({ name: 'fedAvgM', serverMomentum: 0.5, serverLearningRate: 0.01 });
    close(run(momentum, { start: 1, delta: -2, rounds: 4 }), [0.98, 0.95, 0.915, 0.8775]);
  });

  test('fedAvgM without momentum is fedAvg', () => {
    fc.assert(
      fc.property(fc.array(fc.float({ noNaN: true, min: -8, max: 8 }), { minLength: 1, maxLength: 20 }), (values) => {
        const [base, delta] = [Float32Array.from(values), Float32Array.from(values.toReversed())];
        const plain = strategyFrom({ name: 'fedAvg' }).improve(base, delta, [], ROUND);
        const momentum = strategyFrom({ name: 'fedAvgM', serverMomentum: 0 }).improve(base, delta, [], ROUND);
        // −0 and 0 are one value here.
        expect(momentum.weights.map((x) => x + 0)).toEqual(plain.weights.map((x) => x + 0));
      }),
    );
  });
});

describe.each(Object.keys(strategies))('%s', (name) => {
  test('a convex problem reaches its optimum', () => {
    // Two agents minimise (w − 1)² and (w − 3)² by one step each; the optimum of the sum is 2.
    const strategy = strategyFrom({ name });
    let weights: Float32Array = Float32Array.of(-1);
    let memory: readonly Float32Array[] = [];
    for (let round = 0; round < 3000; round++) {
      const delta = Float32Array.of(-0.05 * 2 * ((weights[0] ?? 0) - 2));
      ({ weights, memory } = strategy.improve(weights, delta, memory, roundOf(strategy)));
    }
    expect(weights[0]).toBeCloseTo(2, 1);
  });

  test('what it remembers has the length of the model, and the same again each round', () => {
    const strategy = strategyFrom({ name });
    const first = strategy.improve(new Float32Array(3), Float32Array.of(1, 2, 3), [], ROUND);
    const second = strategy.improve(first.weights, Float32Array.of(1, 2, 3), first.memory, ROUND);
    expect(second.memory.map(({ length }) => length)).toEqual(first.memory.map(() => 3));
  });
});
