import { ConfigError, type StatisticsPlan } from '@commonweight/core';
import { parsed, record, requireKeys } from './fields.ts';
import { parseEvaluation, parseStatistics, type EvaluationAsked } from './measure.ts';
import { parseTraining, policyOf, type TaskConfig } from './policy.ts';
import type { RoundPolicy } from './round.ts';
import {
  parseSchedule,
  requireMemory,
  scheduleDefaults,
  schedulePolicyOf,
  SCHEDULE_KEYS,
  type ScheduleConfig,
} from './schedule.ts';

/** A task whose agents measure each version of a model. */
export interface EvaluateConfig extends ScheduleConfig {
  kind: 'evaluate';
  evaluation: EvaluationAsked;
}

/** A task whose agents count their data. */
export interface StatisticsConfig extends ScheduleConfig {
  kind: 'statistics';
  statistics: Partial<StatisticsPlan>;
}

export type AnyConfig = TaskConfig | EvaluateConfig | StatisticsConfig;
export type WorkName = 'train' | 'evaluate' | 'statistics';
const KINDS: readonly string[] = ['train', 'evaluate', 'statistics'];

/** What a task's agents do. */
export const kindOf = (config: AnyConfig): WorkName => ('kind' in config ? config.kind : 'train');

/** Any task's configuration from JSON text. Throws ConfigError naming the key and the mend. */
export function parseConfig(json: string): AnyConfig {
  const configured = record(parsed(json), 'the configuration');
  const { kind = 'train' } = configured;
  if (kind === 'train') return parseTraining(configured);
  if (kind !== 'evaluate' && kind !== 'statistics')
    throw new ConfigError(`kind must be one of ${KINDS.join(', ')}`, 'kind');
  const own = kind === 'evaluate' ? 'evaluation' : 'statistics';
  // Once is what somebody who asks wants to begin with.
  const given: Record<string, unknown> = { ...scheduleDefaults, rounds: 1, ...configured };
  requireKeys(given, [...SCHEDULE_KEYS, 'kind', own], '');
  const schedule = parseSchedule(given);
  requireMemory(schedule.cohort);
  if (kind === 'evaluate') return { kind, ...schedule, evaluation: parseEvaluation(given['evaluation'] ?? {}) };
  if (schedule.evaluators !== undefined)
    throw new ConfigError('evaluators judge models, and statistics are of those who train: leave it out', 'evaluators');
  if (schedule.cohort.min < 2)
    throw new ConfigError('cohort.min of statistics must be 2 at least: those of one agent are its data', 'cohort.min');
  return { kind, ...schedule, statistics: parseStatistics(given['statistics'] ?? {}) };
}

/** The part of any configuration that the round machine reads. */
export function anyPolicyOf(config: AnyConfig): RoundPolicy {
  if (!('kind' in config)) return policyOf(config);
  return { ...schedulePolicyOf(config), ...(config.kind === 'evaluate' ? { oncePerVersion: true } : {}) };
}
