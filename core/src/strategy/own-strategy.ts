import type { UpdateBlocks } from '../aggregation/robust/updates.ts';
import { ConfigError } from '../errors.ts';
import { parsePlan } from '../training/plan.ts';
import type { UpdateShape } from '../weights/packed.ts';
import { localMethodOf } from './local-methods.ts';
import { strategies, type Improvement, type Strategy, type StrategyModule, type StrategyOptions } from './strategy.ts';

const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,40}$/;
/** Parameters of the model that a strategy is tried on. */
const TRIED = 4;

/** Strategies of users' own, by their names, with what they were made from. */
const added = new Map<string, string>();

/**
 * Makes a strategy of a user's own known by its name, after it was tried on a tiny round. `source` names the file in errors; `digest`
 * becomes part of the strategy's name, NAME@DIGEST, so that every manifest says which code made it. Throws ConfigError that says what is
 * wrong, and where another strategy has the name.
 */
export function addStrategy(exported: unknown, source: string, digest: string): string {
  const fault = (problem: string): ConfigError => new ConfigError(`${source}: ${problem}`, 'strategy');
  const { name, options, make } = moduleOf(exported, fault);
  if (added.get(name) === digest) return `${name}@${digest}`;
  if (Object.hasOwn(strategies, name)) {
    throw fault(`there is a strategy "${name}" already: give it another name`);
  }
  const label = `${name}@${digest}`;
  const recipe = {
    options,
    make: (given: StrategyOptions): Strategy => checked({ ...strategyOf(make(given), fault), name: label }, fault),
  };
  tryOn(recipe.make({}), fault);
  strategies[name] = recipe;
  added.set(name, digest);
  return label;
}

type Fault = (problem: string) => ConfigError;

function moduleOf(exported: unknown, fault: Fault): StrategyModule {
  if (typeof exported !== 'object' || exported === null) {
    throw fault('the default export is no object: write `export default { name, options, make }`');
  }
  const { name, options, make } = exported as Record<string, unknown>;
  if (typeof name !== 'string' || !NAME.test(name)) {
    throw fault(`name is ${JSON.stringify(name)}: give letters, digits, - and _, a letter first, 41 at most`);
  }
  if (
    !Array.isArray(options) ||
    !options.every((option) => typeof option === 'string' && /^[A-Za-z]\w*$/.test(option))
  ) {
    throw fault("options must be the list of the options' names, such as ['serverLearningRate']");
  }
  if (typeof make !== 'function') throw fault('make must be the function that makes the strategy of its options');
  return { name, options: options as string[], make: make as StrategyModule['make'] };
}

function strategyOf(made: unknown, fault: Fault): Strategy {
  if (typeof made !== 'object' || made === null) throw fault('make gave no strategy');
  const strategy = made as Strategy;
  for (const key of ['instruct', 'weigh', 'improve'] as const) {
    if (typeof strategy[key] !== 'function') throw fault(`the strategy has no function ${key}: begin with ...fedAvg()`);
  }
  const { robust } = strategy as { robust?: Partial<NonNullable<Strategy['robust']>> };
  const isCount = (count: unknown): boolean => Number.isInteger(count) && (count as number) >= 1;
  if (robust !== undefined) {
    if (typeof robust.rule !== 'function') throw fault('robust.rule must be a function');
    if (!isCount(robust.updatesMin) || !isCount(robust.updatesMax)) {
      throw fault('robust.updatesMin and robust.updatesMax must be whole numbers from 1 on');
    }
    if (robust.needsRoot !== undefined && typeof robust.needsRoot !== 'boolean')
      throw fault('robust.needsRoot must be true or false');
  }
  return strategy;
}

/** The same strategy, which cannot make a version that is not one. */
function checked(strategy: Strategy, fault: Fault): Strategy {
  return {
    ...strategy,
    improve: (base, delta, memory, round) => {
      const improvement = strategy.improve(base, delta, memory, round) as Partial<Improvement> | undefined;
      const { weights, memory: next } = improvement ?? {};
      requireVector(weights, base.length, 'the weights that improve gave', fault);
      if (!Array.isArray(next)) throw fault('improve gave no memory: give a list of vectors, [] for none');
      for (const vector of next) requireVector(vector, base.length, 'a vector of the memory that improve gave', fault);
      return improvement as Improvement;
    },
  };
}

function requireVector(vector: unknown, length: number, what: string, fault: Fault): void {
  if (!(vector instanceof Float32Array) || vector.length !== length) {
    throw fault(`${what} must be a Float32Array of ${length} values, as many as the model has`);
  }
  const wrong = vector.findIndex((value) => !Number.isFinite(value));
  if (wrong >= 0) throw fault(`${what} hold ${vector[wrong]} at ${wrong}`);
}

/** One round of a model with a few parameters. */
function tryOn({ instruct, weigh, robust, improve }: Strategy, fault: Fault): void {
  const plan = instruct(
    parsePlan({ loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 1 }),
  );
  const { shape } = localMethodOf(parsePlan(plan));
  for (const examples of [1, 10, 1000]) {
    const weight = weigh(examples, 100);
    if (!Number.isInteger(weight) || weight < 1 || weight > 100) {
      throw fault(`weigh gave ${weight} for ${examples} examples where 100 is the most: give a whole number from 1 on`);
    }
  }
  const base = new Float32Array(TRIED);
  if (robust === undefined) {
    improve(base, new Float32Array(TRIED).fill(0.5), [], triedRound(shape));
    return;
  }
  const { delta, memory = [] } = robust.rule(alike(robust.updatesMin, robust.needsRoot === true), []);
  requireVector(delta, TRIED, 'the delta that robust.rule gave', fault);
  improve(base, delta, memory, {
    updates: robust.updatesMin,
    weight: robust.updatesMin,
    vectors: [],
    numbers: [],
  });
}

const triedRound = ({ vectors, numbersMax }: UpdateShape) => ({
  updates: 2,
  weight: 2,
  vectors: Array.from({ length: vectors - 1 }, () => new Float32Array(TRIED)),
  numbers: numbersMax.map((max) => Math.min(1, max / 2)),
});

/** The root's comes last. */
const alike = (clients: number, isRooted: boolean): UpdateBlocks => {
  const count = clients + (isRooted ? 1 : 0);
  return {
    count,
    length: TRIED,
    weights: Array.from({ length: count }, () => 1),
    read: (update, start, end) => new Float32Array(end - start).fill(0.5 + update / (10 * count)),
    ...(isRooted ? { root: clients } : {}),
  };
};
