import { ConfigError } from '../errors.ts';
import { losses } from './losses.ts';
import type { LossName } from './losses.ts';
import type { OptimizerPlan } from './optimizers.ts';

/** How one client trains in one round. */
export interface TrainingPlan {
  loss: LossName;
  optimizer: OptimizerPlan;
  epochs: number;
  batchSize: number;
  /** FedProx's mu: pulls the weights towards the round's base. */
  proximalMu?: number;
}

const limits = { epochs: 10_000, batchSize: 65_536, learningRate: 1e6, proximalMu: 1e6 };

/** Reads a plan from JSON; throws ConfigError naming the key at fault. */
export function parsePlan(value: unknown): TrainingPlan {
  const plan = fields(value, 'plan', ['loss', 'optimizer', 'epochs', 'batchSize', 'proximalMu']);
  const { loss } = plan;
  if (typeof loss !== 'string' || !Object.hasOwn(losses, loss)) {
    throw fault('loss', `must be one of ${Object.keys(losses).join(', ')}`);
  }
  const proximalMu = optional(plan, 'proximalMu', 'proximalMu', (mu) => mu >= 0 && mu <= limits.proximalMu);
  return {
    loss: loss as LossName,
    optimizer: parseOptimizer(plan['optimizer']),
    epochs: whole(plan, 'epochs', limits.epochs),
    batchSize: whole(plan, 'batchSize', limits.batchSize),
    ...(proximalMu === undefined ? {} : { proximalMu }),
  };
}

const optimizerKeys: Readonly<Record<string, readonly string[]>> = {
  sgd: ['momentum'],
  adam: ['beta1', 'beta2', 'epsilon'],
};

function parseOptimizer(value: unknown): OptimizerPlan {
  const name = fields(value, 'optimizer')['name'];
  if (name !== 'sgd' && name !== 'adam') throw fault('optimizer.name', 'must be sgd or adam');
  const optimizer = fields(value, 'optimizer', ['name', 'learningRate', ...optimizerKeys[name]!]);
  const learningRate = optional(
    optimizer,
    'learningRate',
    'optimizer.learningRate',
    (rate) => rate > 0 && rate <= limits.learningRate,
  );
  if (learningRate === undefined) throw fault('optimizer.learningRate', 'is missing: give a number such as 0.1');
  const rest = optimizerKeys[name]!.flatMap((key) => {
    const isInside =
      key === 'epsilon' ? (given: number) => given > 0 && given < 1 : (given: number) => given >= 0 && given < 1;
    const given = optional(optimizer, key, `optimizer.${key}`, isInside);
    return given === undefined ? [] : [[key, given]];
  });
  return { name, learningRate, ...Object.fromEntries(rest) };
}

function fields(value: unknown, key: string, known?: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fault(key, 'must be an object');
  const unknown = known === undefined ? undefined : Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw fault(key === 'plan' ? unknown : `${key}.${unknown}`, `is not known; use ${known!.join(', ')}`);
  return value as Record<string, unknown>;
}

function whole(plan: Record<string, unknown>, key: string, max: number): number {
  const value = plan[key];
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw fault(key, `must be a whole number from 1 to ${max}`);
}

function optional(
  from: Record<string, unknown>,
  key: string,
  path: string,
  isInside: (value: number) => boolean,
): number | undefined {
  const value = from[key];
  if (value === undefined) return undefined;
  if (typeof value === 'number' && Number.isFinite(value) && isInside(value)) return value;
  throw fault(path, `is out of range: ${JSON.stringify(value)}`);
}

function fault(key: string, problem: string): ConfigError {
  return new ConfigError(`${key} ${problem}`, key);
}
