import { UsageError } from '../output/failure.ts';
import type { TaskFlags } from './task-flags.ts';
import { whereOf } from './where-flags.ts';

export type Config = Record<string, unknown>;

/** Without the keys that nobody gave. */
export const given = (values: Config): Config =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));

export function cohortOf(
  file: Config,
  { cohortMin, cohortMax, overSelection, separation }: TaskFlags,
  leastMin: number,
): Config {
  const min = cohortMin ?? (file['min'] as number | undefined) ?? Math.min(leastMin, cohortMax ?? leastMin);
  const max = cohortMax ?? (file['max'] as number | undefined) ?? Math.max(min, 100);
  if (min > max) throw new UsageError(`--cohort-min ${min} is more than --cohort-max ${max}`);
  return { ...file, min, max, ...given({ overSelection, separation }) };
}

export function whereIn(file: Config, { where }: TaskFlags): Config {
  const config = whereOf(file, where);
  return Object.keys(config).length === 0 ? {} : { where: config };
}

/** Throws UsageError naming the first flag that says nothing here. */
export function requireNone(flags: TaskFlags, keys: readonly (keyof TaskFlags)[], why: string): void {
  const key = keys.find((one) => flags[one] !== undefined);
  if (key === undefined) return;
  throw new UsageError(`--${key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} ${why}`);
}

/** Sizes that the model leaves open; nothing where nobody said any. */
export function sizesOf(file: Config, { size }: TaskFlags): Config {
  const sizes = { ...file, ...size };
  return Object.keys(sizes).length === 0 ? {} : { sizes };
}

/** The loss: one by its name, or a graph of somebody's own. */
export function lossIn({ loss, lossGraph }: TaskFlags): { loss?: string | undefined; lossGraph?: string | undefined } {
  if (lossGraph === undefined) return { loss };
  if (loss === undefined || loss === 'graph') return { loss: 'graph', lossGraph };
  throw new UsageError(`--loss-graph is the loss: leave --loss ${loss} out`);
}
