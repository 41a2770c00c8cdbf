import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ExactSum } from '../aggregation/exact-sum.ts';
import { ConfigError } from '../errors.ts';
import { seeded } from '../random/stream.ts';
import type { TrainingPlan } from '../training/plan.ts';
import { encodings, type EncodingName } from '../weights/encoding.ts';
import { gridFor } from '../weights/grid.ts';
import { fedAvg } from './fed-avg.ts';
import { fedProx } from './fed-prox.ts';
import { strategies, strategyFrom, type Strategy } from './strategy.ts';

const WEIGHT_MAX = 1000;
const grid = gridFor({ valueMaxExponent: 3, weightMax: WEIGHT_MAX, cohortMax: 64 });
const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 0.1 },
  epochs: 2,
  batchSize: 8,
};

interface Update {
  encoding: EncodingName;
  payload: Uint8Array;
  examples: number;
}

const summary = (updates: readonly Update[]) => ({
  updates: updates.length,
  weight: updates.length,
  vectors: [],
  numbers: [],
});

/** A round on the exact path, as the coordinator walks it. */
function round(strategy: Strategy, base: Float32Array, updates: readonly Update[]): Float32Array {
  const sum = new ExactSum(base.length, grid);
  for (const { encoding, payload, examples } of updates) {
    expect(sum.add(encoding, payload, strategy.weigh(examples, WEIGHT_MAX))).toBeUndefined();
  }
  return strategy.improve(base, sum.mean(), [], summary(updates)).weights;
}

const bytesOf = (values: Float32Array): Buffer => Buffer.from(values.buffer, values.byteOffset, values.byteLength);

/** A round of up to a dozen agents over up to 70 parameters, which is more than two blocks. */
const rounds = fc
  .record({ length: fc.integer({ min: 1, max: 70 }), cohort: fc.integer({ min: 1, max: 12 }), seed: fc.nat() })
  .map(({ length, cohort, seed }) => {
    const random = seeded(seed);
    const base = Float32Array.from({ length }, () => random.normal());
    const updates = Array.from({ length: cohort }, (_, i): Update => {
      const encoding = i % 2 === 0 ? 'float32' : 'mxint8';
      const delta = Float32Array.from({ length }, () => random.normal() * 0.1);
      const examples = 1 + Math.floor(random.uniform() * 1500);
      return { encoding, payload: encodings[encoding].encode(delta, grid, random), examples };
    });
    return { base, updates, seed };
  });

describe('fedAvg', () => {
  test('moves the weights by the mean of the updates, each weighted by its examples', () => {
    fc.assert(
      fc.property(rounds, ({ base, updates }) => {
        const improved = round(fedAvg(), base, updates);
        const weights = updates.map(({ examples }) => Math.min(WEIGHT_MAX, examples));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        const deltas = updates.map(({ encoding, payload }) => encodings[encoding].decode(payload, base.length, grid));
        for (const [i, value] of base.entries()) {
          const mean = deltas.reduce((sum, delta, k) => sum + (weights[k]! / total) * delta[i]!, 0);
          const wanted = value + mean;
          // Two roundings to float32: of the mean, and of the sum.
          const tolerance = 2 ** -24 * (Math.abs(mean) + Math.abs(wanted)) + 2 ** -40;
          expect(Math.abs(improved[i]! - wanted)).toBeLessThanOrEqual(tolerance);
        }
      }),
    );
  });

  test('the order of arrival never shows in the bytes', () => {
    fc.assert(
      fc.property(rounds, fc.nat(), ({ base, updates }, order) => {
        const shuffled = seeded(order).shuffle([...updates]);
        expect(bytesOf(round(fedAvg(), base, shuffled))).toEqual(bytesOf(round(fedAvg(), base, updates)));
      }),
    );
  });

  test('how the updates are parted among sums never shows in the bytes', () => {
    fc.assert(
      fc.property(rounds, fc.integer({ min: 1, max: 5 }), fc.nat(), ({ base, updates }, parts, order) => {
        const strategy = fedAvg();
        const random = seeded(order);
        const sums = Array.from({ length: parts }, () => new ExactSum(base.length, grid));
        for (const { encoding, payload, examples } of updates) {
          sums[Math.floor(random.uniform() * parts)]!.add(encoding, payload, strategy.weigh(examples, WEIGHT_MAX));
        }
        const total = new ExactSum(base.length, grid);
        // Partial sums travel as bytes.
        for (const sum of random.shuffle(sums)) total.merge(ExactSum.fromBytes(sum.toBytes()));
        expect(bytesOf(strategy.improve(base, total.mean(), [], summary(updates)).weights)).toEqual(
          bytesOf(round(strategy, base, updates)),
        );
      }),
    );
  });

  test('one agent alone: the model becomes what the agent trained', () => {
    const base = Float32Array.of(1, -2, 0.5, 0);
    const delta = Float32Array.of(0.25, 0.5, -0.125, 1);
    const payload = encodings.float32.encode(delta, grid, seeded(1));
    expect(round(fedAvg(), base, [{ encoding: 'float32', payload, examples: 3 }])).toEqual(
      Float32Array.of(1.25, -1.5, 0.375, 1),
    );
  });

  test('the server learning rate scales the step', () => {
    const improve = fedAvg({ serverLearningRate: 0.5 }).improve;
    expect(improve(Float32Array.of(1, 2), Float32Array.of(1, -4), [], summary([])).weights).toEqual(
      Float32Array.of(1.5, 0),
    );
    expect(
      fedAvg({ serverLearningRate: 0 }).improve(Float32Array.of(1), Float32Array.of(5), [], summary([])).weights,
    ).toEqual(Float32Array.of(1));
  });

  test('a base is never changed', () => {
    const base = Float32Array.of(1, 2);
    fedAvg().improve(base, Float32Array.of(1, 1), [], summary([]));
    expect(base).toEqual(Float32Array.of(1, 2));
  });

  test('a weight is a whole number of examples from 1 to the cap', () => {
    const { weigh } = fedAvg();
    expect([0, 0.4, 1, 2.5, 999, 1000, 1e9].map((examples) => weigh(examples, WEIGHT_MAX))).toEqual([
      1, 1, 1, 3, 999, 1000, 1000,
    ]);
  });

  test('agents get the plan of the task', () => expect(fedAvg().instruct(plan)).toEqual(plan));
});

describe('fedProx', () => {
  test('gives agents its proximal term and leaves the rest of the plan', () => {
    expect(fedProx({ mu: 0.1 }).instruct(plan)).toEqual({ ...plan, proximalMu: 0.1 });
    expect(fedProx().instruct(plan)).toEqual({ ...plan, proximalMu: 0.01 });
    expect(strategyFrom({ name: 'fedProx', mu: 0.5 }).instruct(plan).proximalMu).toBe(0.5);
  });

  test('does with the updates what fedAvg does, bit for bit', () => {
    fc.assert(
      fc.property(rounds, ({ base, updates }) => {
        expect(bytesOf(round(fedProx({ mu: 0.3 }), base, updates))).toEqual(bytesOf(round(fedAvg(), base, updates)));
      }),
      { numRuns: 20 },
    );
  });
});

describe('a strategy by its configuration', () => {
  test('each has the name it is found by', () => {
    for (const name of Object.keys(strategies)) expect(strategyFrom({ name }).name).toBe(name);
  });

  test('an unknown one is refused with those there are', () => {
    for (const name of ['fedMagic', '', 'constructor', '__proto__', 'toString']) {
      const make = () => strategyFrom({ name });
      expect(make).toThrow(ConfigError);
      expect(make).toThrow(`strategy "${name}" is not known: use one of fedAvg, fedAvgM, fedProx`);
    }
  });

  test('an unknown option, and a value that is no number, are refused by their key', () => {
    expect(() => strategyFrom({ name: 'fedAvg', mu: 1 })).toThrow(
      /fedAvg has no option "mu": it has serverLearningRate/,
    );
    for (const mu of [-1, Number.NaN, Infinity, '1', null]) {
      expect(() => strategyFrom({ name: 'fedProx', mu })).toThrow(
        /strategy\.mu is .*: give a number that is not negative/,
      );
    }
  });
});
