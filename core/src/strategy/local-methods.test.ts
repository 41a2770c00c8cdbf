import { describe, expect, test } from 'vitest';
import { ConfigError } from '../errors.ts';
import { parsePlan, type TrainingPlan } from '../training/plan.ts';
import { accumulatedRate } from './local-method.ts';
import { localMethodOf } from './local-methods.ts';
import { strategyFrom } from './strategy.ts';

const RATE = 0.1;
const plan: TrainingPlan = {
  loss: 'mse',
  optimizer: { name: 'sgd', learningRate: RATE },
  epochs: 1,
  batchSize: 1,
};

/** An agent whose loss is curvature/2 · (x − optimum)², which takes so many steps of gradient descent. */
interface QuadraticAgent {
  curvature: number;
  optimum: number;
  steps: number;
  examples: number;
}

/** Where all agents together have their least loss, weighted by examples. */
const commonOptimum = (agents: readonly QuadraticAgent[]): number =>
  agents.reduce((sum, { curvature, optimum, examples }) => sum + examples * curvature * optimum, 0) /
  agents.reduce((sum, { curvature, examples }) => sum + examples * curvature, 0);

/** The weight of a model with one parameter after some rounds of all agents, in float64 but for the vectors. */
function federate(
  config: { name: string } & Record<string, number | string>,
  agents: readonly QuadraticAgent[],
  rounds: number,
): number {
  const strategy = strategyFrom(config);
  const instructed = parsePlan(strategy.instruct(plan));
  const method = localMethodOf(instructed);
  let weights: Float32Array = Float32Array.of(0);
  let memory: readonly Float32Array[] = [];
  const kept: (Float32Array | undefined)[] = agents.map(() => undefined);
  for (let round = 0; round < rounds; round++) {
    const updates = agents.map(({ curvature, optimum, steps, examples }, i) => {
      const state = { base: weights, memory, kept: kept[i] };
      const correction = method.correction?.(state)[0] ?? 0;
      const base = weights[0]!;
      const loss = (x: number): number => (curvature / 2) * (x - optimum) ** 2;
      let x = base;
      for (let step = 0; step < steps; step++) {
        x -= RATE * (curvature * (x - optimum) + correction + (instructed.proximalMu ?? 0) * (x - base));
      }
      const report = method.report({
        ...state,
        delta: Float32Array.of(x - base),
        steps,
        baseLoss: loss(base),
        plan: instructed,
      });
      kept[i] = report.kept;
      return { ...report, weight: strategy.weigh(examples, 1000) };
    });
    const total = updates.reduce((sum, { weight }) => sum + weight, 0);
    const mean = (of: (update: (typeof updates)[number]) => number): number =>
      updates.reduce((sum, update) => sum + (update.weight / total) * of(update), 0);
    const vectors = method.shape.vectors;
    ({ weights, memory } = strategy.improve(
      weights,
      Float32Array.of(mean(({ vectors: [delta] }) => delta![0]!)),
      memory,
      {
        updates: agents.length,
        weight: total,
        vectors: Array.from({ length: vectors - 1 }, (_, i) => Float32Array.of(mean((one) => one.vectors[i + 1]![0]!))),
        numbers: method.shape.numbersMax.map((_, i) => mean(({ numbers }) => numbers[i]!)),
      },
    ));
  }
  return weights[0]!;
}

const unlike: readonly QuadraticAgent[] = [
  { curvature: 1, optimum: -3, steps: 2, examples: 10 },
  { curvature: 3, optimum: 2, steps: 2, examples: 10 },
  { curvature: 0.5, optimum: 8, steps: 20, examples: 10 },
];

describe('steps are counted back', () => {
  const steps = (changes: Partial<TrainingPlan>, count: number): number =>
    accumulatedRate({ ...plan, ...changes }, count);

  test('plain SGD: one each; a schedule: the sum of its factors', () => {
    expect(steps({}, 7)).toBe(7);
    expect(steps({ schedule: { name: 'step', everySteps: 2, factor: 0.5 } }, 4)).toBe(3);
  });

  test('momentum and a proximal term: the formulas of Wang et al. 2020, section 4', () => {
    const [momentum, mu, tau] = [0.9, 2, 9];
    const optimizer = { name: 'sgd', learningRate: RATE, momentum } as const;
    const expected = (tau - (momentum * (1 - momentum ** tau)) / (1 - momentum)) / (1 - momentum);
    expect(steps({ optimizer }, tau)).toBeCloseTo(expected, 9);
    expect(steps({ proximalMu: mu }, tau)).toBeCloseTo((1 - (1 - RATE * mu) ** tau) / (RATE * mu), 9);
  });

  test('an optimizer that scales every step is refused by its key', () => {
    const adam: TrainingPlan = { ...plan, optimizer: { name: 'adam', learningRate: 0.1 } };
    for (const name of ['fedNova', 'scaffold']) {
      expect(() => strategyFrom({ name }).instruct(adam)).toThrow(ConfigError);
    }
  });
});

describe('fedNova', () => {
  test('ends where its fixed point is in closed form, and fedAvg at its own', () => {
    const shrink = ({ curvature, steps }: QuadraticAgent): number => 1 - (1 - RATE * curvature) ** steps;
    const fixed = (weigh: (agent: QuadraticAgent) => number): number =>
      unlike.reduce((sum, agent) => sum + weigh(agent) * agent.optimum, 0) /
      unlike.reduce((sum, agent) => sum + weigh(agent), 0);
    expect(federate({ name: 'fedNova' }, unlike, 200)).toBeCloseTo(
      fixed((agent) => shrink(agent) / agent.steps),
      4,
    );
    expect(federate({ name: 'fedAvg' }, unlike, 200)).toBeCloseTo(fixed(shrink), 4);
  });

  test('where all take as many steps it is fedAvg', () => {
    const alike = unlike.map((agent) => ({ ...agent, steps: 3 }));
    expect(federate({ name: 'fedNova' }, alike, 5)).toBeCloseTo(federate({ name: 'fedAvg' }, alike, 5), 5);
  });

  test('one round by hand: the mean of one step, times the mean steps', () => {
    const agents = [
      { curvature: 1, optimum: 1, steps: 1, examples: 30 },
      { curvature: 1, optimum: -1, steps: 2, examples: 10 },
    ];
    // Δ = .1 and −.19; per step .1 and −.095; p = 3/4, 1/4; 5/4 steps on the mean.
    expect(federate({ name: 'fedNova' }, agents, 1)).toBeCloseTo(1.25 * (0.75 * 0.1 - 0.25 * 0.095), 6);
  });
});

describe('scaffold', () => {
  test('ends at the common optimum, however unlike the agents are; fedAvg does not', () => {
    const optimum = commonOptimum(unlike);
    expect(federate({ name: 'scaffold' }, unlike, 400)).toBeCloseTo(optimum, 4);
    expect(Math.abs(federate({ name: 'fedAvg' }, unlike, 400) - optimum)).toBeGreaterThan(0.5);
  });

  test('its variates by hand: algorithm 1 with option II', () => {
    const method = localMethodOf({ local: { name: 'scaffold' } });
    const state = { base: Float32Array.of(0), memory: [Float32Array.of(0.5)], kept: Float32Array.of(0.25) };
    // The gradient is corrected by c − c'.
    expect(method.correction?.(state)).toEqual(Float32Array.of(0.25));
    const report = method.report({ ...state, delta: Float32Array.of(-2), steps: 4, baseLoss: undefined, plan });
    // c' − c + (x − y) / (K·η) = .25 − .5 + 2 / .4 = 4.75, a change of 4.5.
    expect(report.kept?.[0]).toBeCloseTo(4.75, 6);
    expect(report.vectors[1]?.[0]).toBeCloseTo(4.5, 6);
  });

  test("where some of many take part, the server's variate moves by their share", () => {
    const round = { updates: 5, weight: 5, vectors: [Float32Array.of(2)], numbers: [] };
    const { weights, memory } = strategyFrom({ name: 'scaffold', agents: 20 }).improve(
      Float32Array.of(1),
      Float32Array.of(0.5),
      [Float32Array.of(1)],
      round,
    );
    expect([weights[0], memory[0]?.[0]]).toEqual([1.5, 1.5]);
  });
});

describe('fedDyn', () => {
  test('ends at the common optimum, however unlike the agents are', () => {
    expect(federate({ name: 'fedDyn', alpha: 1 }, unlike, 2000)).toBeCloseTo(commonOptimum(unlike), 3);
  });

  test('one round by hand: h = −α·Δ, w = w + Δ − h/α', () => {
    const { weights, memory } = strategyFrom({ name: 'fedDyn', alpha: 0.5 }).improve(
      Float32Array.of(1),
      Float32Array.of(0.25),
      [],
      { updates: 2, weight: 2, vectors: [], numbers: [] },
    );
    expect([weights[0], memory[0]?.[0]]).toEqual([1.5, -0.125]);
  });
});

describe('qFedAvg', () => {
  test('algorithm 2 by hand, for q 2 and two agents', () => {
    const method = localMethodOf({ local: { name: 'qFedAvg', q: 2, lipschitz: 10 } });
    const report = (delta: number, baseLoss: number) =>
      method.report({
        base: Float32Array.of(0),
        memory: [],
        kept: undefined,
        delta: Float32Array.of(delta),
        steps: 1,
        baseLoss,
        plan,
      });
    const [one, other] = [report(0.5, 2), report(-0.25, 1)];
    // With Δw = L·(w − w'): Δ = F²·Δw, h = 2·F·Δw² + L·F².
    const [d1, d2] = [10 * -0.5, 10 * 0.25];
    const [delta, h] = [4 * d1 + 1 * d2, 2 * 2 * d1 ** 2 + 10 * 4 + (2 * 1 * d2 ** 2 + 10 * 1)];
    const mean = (a: number, b: number): number => (a + b) / 2;
    const { weights } = strategyFrom({ name: 'qFedAvg', q: 2, lipschitz: 10 }).improve(
      Float32Array.of(1),
      Float32Array.of(mean(one.vectors[0]![0]!, other.vectors[0]![0]!)),
      [],
      { updates: 2, weight: 2, vectors: [], numbers: [mean(one.numbers[0]!, other.numbers[0]!)] },
    );
    expect(weights[0]).toBeCloseTo(1 - delta / h, 5);
  });

  test('q 0 is a plain mean', () => {
    const alike = unlike.map((agent) => ({ ...agent, examples: 10 }));
    expect(federate({ name: 'qFedAvg', q: 0 }, alike, 4)).toBeCloseTo(federate({ name: 'fedAvg' }, alike, 4), 4);
  });

  test('the larger q, the closer the losses of the agents are to each other', () => {
    const spread = (x: number): number => {
      const losses = unlike.map(({ curvature, optimum }) => (curvature / 2) * (x - optimum) ** 2);
      return Math.max(...losses) - Math.min(...losses);
    };
    const at = (q: number): number => spread(federate({ name: 'qFedAvg', q, lipschitz: 10 }, unlike, 3000));
    expect(at(1)).toBeLessThan(at(0));
    expect(at(2)).toBeLessThan(at(1));
  });
});

test('a plan says what is known only', () => {
  expect(() => parsePlan({ ...plan, local: { name: 'toString' } })).toThrow(
    /local.name must be one of fedNova, scaffold/,
  );
  expect(() => parsePlan({ ...plan, local: { name: 'scaffold', alpha: 1 } })).toThrow(/local.alpha is not known/);
  expect(() => parsePlan({ ...plan, localLayers: 'head' })).toThrow(/localLayers must be a list/);
  expect(parsePlan({ ...plan, local: { name: 'fedDyn', alpha: 0.5 }, localLayers: ['head.*'] })).toMatchObject({
    local: { name: 'fedDyn', alpha: 0.5 },
    localLayers: ['head.*'],
  });
});
