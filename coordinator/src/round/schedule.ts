import { ConfigError } from '@commonweight/core';
import { isName } from '@commonweight/proto';
import { inviteMaxOf, parseCohort, requireSeparation, type CohortConfig } from './cohort.ts';
import { whole } from './fields.ts';
import type { RoundPolicy } from './round.ts';
import { parseWhere, type Where } from './where.ts';

/** What every task has, whatever its agents do: which model, when its rounds are, and which agents are in them. */
export interface ScheduleConfig {
  model: string;
  cohort: CohortConfig;
  /** Milliseconds that a round waits for updates. */
  collectMs: number;
  /** Milliseconds after which the minimum of updates is enough; without it a round waits for all who were invited. */
  collectMinMs?: number;
  /** Milliseconds between two rounds. */
  pauseMs: number;
  /** Rounds to publish; 0 is for ever. */
  rounds: number;
  seed: number;
  /** Which agents it may invite; without it, all. */
  where?: Where;
  /** Agents with data that others are judged by: they are asked by name. */
  evaluators?: readonly string[];
}

export const SCHEDULE_KEYS: readonly string[] = [
  'model',
  'cohort',
  'collectMs',
  'collectMinMs',
  'pauseMs',
  'rounds',
  'seed',
  'where',
  'evaluators',
];

export const scheduleDefaults = { collectMs: 600_000, pauseMs: 0, rounds: 0, seed: 0 } as const;

const GATHER_MS = 1_000;
const GRACE_MS = 5_000;
const EVALUATORS_MAX = 100;

/** Throws ConfigError naming the key and the mend. */
export function parseSchedule(given: Record<string, unknown>): ScheduleConfig {
  const { collectMinMs, evaluators, model, where } = given;
  if (typeof model !== 'string' || !isName(model)) throw new ConfigError('model must be the name of a model', 'model');
  const collectMs = whole(given, 'collectMs', 'collectMs', 1, 7 * 86_400_000);
  return {
    model,
    cohort: parseCohort(given['cohort']),
    collectMs,
    ...(collectMinMs === undefined ? {} : { collectMinMs: whole(given, 'collectMinMs', 'collectMinMs', 0, collectMs) }),
    pauseMs: whole(given, 'pauseMs', 'pauseMs', 0, 7 * 86_400_000),
    rounds: whole(given, 'rounds', 'rounds', 0, 1e9),
    seed: whole(given, 'seed', 'seed', 0, Number.MAX_SAFE_INTEGER),
    ...(where === undefined ? {} : { where: parseWhere(where) }),
    ...(evaluators === undefined ? {} : { evaluators: parseEvaluators(evaluators) }),
  };
}

function parseEvaluators(value: unknown): readonly string[] {
  const isAgent = (id: unknown): id is string => typeof id === 'string' && isName(id);
  if (Array.isArray(value) && value.length >= 1 && value.length <= EVALUATORS_MAX && value.every(isAgent)) return value;
  throw new ConfigError(`evaluators must be a list of 1 to ${EVALUATORS_MAX} names of agents`, 'evaluators');
}

/** What the round machine reads of it. */
export function schedulePolicyOf({
  cohort,
  collectMs,
  collectMinMs,
  pauseMs,
  rounds,
  seed,
}: ScheduleConfig): RoundPolicy {
  return {
    cohortMin: cohort.min,
    cohortMax: cohort.max,
    inviteMax: inviteMaxOf(cohort),
    collectMs,
    ...(collectMinMs === undefined ? {} : { collectMinMs }),
    pauseMs,
    gatherMs: GATHER_MS,
    graceMs: GRACE_MS,
    roundsMax: rounds,
    separation: cohort.separation ?? 0,
    seed,
  };
}

/** Throws ConfigError where a task would have to remember too many agents. */
export const requireMemory = (cohort: CohortConfig, updatesMax: number = inviteMaxOf(cohort)): void =>
  requireSeparation(cohort, updatesMax);
