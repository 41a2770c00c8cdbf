import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ConfigError } from '../errors.ts';
import { parsePlan } from '../training/plan.ts';
import { asynchronously, FRESH_WEIGHT, parseAsynchronous, stalenessDiscount } from './asynchronous.ts';
import { fedAsync } from './fed-async.ts';
import { fedAvg } from './fed-avg.ts';
import { fedBuff } from './fed-buff.ts';
import { scaffold } from './scaffold.ts';
import type { Strategy } from './strategy.ts';

const policy = parseAsynchronous({}, 'asynchronous');
const close = (actual: readonly number[], expected: readonly number[]): void => {
  expect(actual).toHaveLength(expected.length);
  for (const [i, value] of actual.entries()) expect(value).toBeCloseTo(expected[i]!, 6);
};

/** One step of a strategy over updates of one number each. */
function stepped(strategy: Strategy, start: number, updates: readonly { delta: number; staleness: number }[]): number {
  const weights = updates.map(({ staleness }) => strategy.weigh(77, 100_000, staleness));
  const weight = weights.reduce((total, one) => total + one, 0);
  // As the exact sum gives it.
  const mean = updates.reduce((sum, { delta }, i) => sum + delta * weights[i]!, 0) / weight;
  const round = { updates: updates.length, weight, vectors: [], numbers: [] };
  return strategy.improve(Float32Array.of(start), Float32Array.of(mean), [], round).weights[0]!;
}

test('the discounts of the papers: polynomial, constant and hinge', () => {
  const of = (given: object) => [0, 1, 2, 3, 4].map((s) => stalenessDiscount(parseAsynchronous(given, ''), s));
  close(of({}), [1, 0.7071068, 0.5773503, 0.5, 0.4472136]);
  close(of({ exponent: 0 }), [1, 1, 1, 1, 1]);
  close(of({ hingeAfter: 2, hingeSlope: 10 }), [1, 1, 1, 1 / 11, 1 / 21]);
});

test('fedBuff: η·Σ discount·Δ / K, whatever the number of examples', () => {
  const updates = [
    { delta: 1, staleness: 0 },
    { delta: 2, staleness: 3 },
  ];
  close([stepped(fedBuff(), 5, updates)], [5 + (1 * 1 + 0.5 * 2) / 2]);
  close([stepped(fedBuff({ serverLearningRate: 0.1 }), 5, updates)], [5 + (0.1 * (1 * 1 + 0.5 * 2)) / 2]);
});

test('fedBuff with momentum steps like fedAvgM on the discounted mean', () => {
  const strategy = fedBuff({ serverMomentum: 0.9 });
  const round = { updates: 1, weight: FRESH_WEIGHT / 2, vectors: [], numbers: [] };
  const first = strategy.improve(Float32Array.of(0), Float32Array.of(1), [], round);
  const second = strategy.improve(first.weights, Float32Array.of(1), first.memory, round);
  close([first.weights[0]!, second.weights[0]!], [0.5, 0.5 + 0.9 * 0.5 + 0.5]);
});

test('fedAsync: a stale update alone moves the model less, and a fresh one by the mixing weight', () => {
  close([stepped(fedAsync(), 1, [{ delta: 1, staleness: 0 }])], [1.6]);
  close([stepped(fedAsync(), 1, [{ delta: 1, staleness: 3 }])], [1.3]);
});

test('fresh updates of any strategy are what they are with rounds', () => {
  const given = fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(given, (deltas) => {
      const updates = deltas.map((delta) => ({ delta, staleness: 0 }));
      const plain = stepped({ ...fedAvg(), weigh: () => 1 }, 2, updates);
      expect(stepped(asynchronously(fedAvg(), policy), 2, updates)).toBeCloseTo(plain, 6);
    }),
  );
});

test('a discount never rises with staleness, and an update never weighs nothing', () => {
  const policies = fc.oneof(
    fc.record({ exponent: fc.double({ min: 0, max: 10, noNaN: true }) }),
    fc.record({ hingeAfter: fc.nat(20), hingeSlope: fc.double({ min: 0.001, max: 1e6, noNaN: true }) }),
  );
  fc.assert(
    fc.property(policies, fc.nat(1000), (given, staleness) => {
      const strategy = asynchronously(fedAvg(), parseAsynchronous(given, ''));
      const [now, next] = [strategy.weigh(1, 1, staleness), strategy.weigh(1, 1, staleness + 1)];
      expect(next).toBeLessThanOrEqual(now);
      expect(next).toBeGreaterThanOrEqual(1);
      expect(now).toBeLessThanOrEqual(FRESH_WEIGHT);
    }),
  );
});

test.each([
  [{ bufferSize: 0 }, 'asynchronous.bufferSize is 0: give a whole number from 1 to 100000'],
  [{ stalenessMax: 1.5 }, 'asynchronous.stalenessMax is 1.5: give a whole number of versions from 0 to 1000000'],
  [{ exponent: -1 }, 'asynchronous.exponent is -1: give a number from 0 to 10'],
  [{ exponent: '2' }, 'asynchronous.exponent is "2": give a number from 0 to 10'],
  [{ hingeSlope: 1 }, 'asynchronous.hingeSlope goes with hingeAfter: give both'],
  [{ hingeAfter: 1, exponent: 1 }, 'give one of them'],
  [{ size: 1 }, 'asynchronous.size is not known: the keys are bufferSize, '],
])('%j is refused', (given, message) => {
  expect(() => parseAsynchronous(given, 'asynchronous')).toThrow(ConfigError);
  expect(() => parseAsynchronous(given, 'asynchronous')).toThrow(message);
});

test('a strategy whose agents have a half of one round cannot work without rounds', () => {
  const plan = parsePlan({ loss: 'mse', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 1 });
  expect(() => asynchronously(scaffold({ agents: 2 }), policy).instruct(plan)).toThrow(
    'scaffold has a half on the agent that belongs to one round: it cannot work asynchronously',
  );
});
