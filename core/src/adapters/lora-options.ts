import { ConfigError } from '../errors.ts';

/** How a model is adapted. */
export interface LoraOptions {
  /** Width of the adapters. */
  rank: number;
  /** The adapters' product counts alpha/rank. */
  alpha: number;
  /** Patterns of the weights' or nodes' names, with `*` for any letters. */
  targets: readonly string[];
  /** Patterns of base tensors that are trained besides, such as a new head. */
  train?: readonly string[];
  seed?: number;
}

const rankMax = 4096;
const patternsMax = 256;

/** Reads options from JSON; throws ConfigError naming the key at fault. */
export function parseLora(value: unknown): LoraOptions {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fault('lora', 'must be an object');
  const known = ['rank', 'alpha', 'targets', 'train', 'seed'];
  const { rank, alpha = rank, targets, train, seed, ...rest } = value as Record<string, unknown>;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw fault(`lora.${unknown}`, `is not known; use ${known.join(', ')}`);
  if (!isWhole(rank, 1, rankMax)) throw fault('lora.rank', `must be a whole number from 1 to ${rankMax}`);
  if (typeof alpha !== 'number' || !(alpha > 0) || !Number.isFinite(alpha))
    throw fault('lora.alpha', 'must be above zero');
  if (seed !== undefined && !isWhole(seed, 0, Number.MAX_SAFE_INTEGER))
    throw fault('lora.seed', 'must be a whole number');
  if (!isPatterns(targets) || targets.length === 0) throw fault('lora.targets', 'must be a list of name patterns');
  if (train !== undefined && !isPatterns(train)) throw fault('lora.train', 'must be a list of name patterns');
  return { rank, alpha, targets, ...(train === undefined ? {} : { train }), ...(seed === undefined ? {} : { seed }) };
}

function isWhole(value: unknown, least: number, most: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most;
}

function isPatterns(value: unknown): value is string[] {
  return Array.isArray(value) && value.length <= patternsMax && value.every((item) => typeof item === 'string');
}

function fault(key: string, problem: string): ConfigError {
  return new ConfigError(`${key} ${problem}`, key);
}
