import { ConfigError } from '@commonweight/core';
import { record, requireKeys, whole } from './fields.ts';

/** How many agents and updates a round has. */
export interface CohortConfig {
  /** Updates without which there is no version. */
  min: number;
  /** Updates that close a round. */
  max: number;
  /** Agents that are invited for each update that is needed: above 1 where some are expected not to deliver in time. */
  overSelection?: number;
  /** Rounds that an agent is left out of after one whose version it is in. */
  separation?: number;
}

const COHORT_MAX = 1_000_000;
const COHORT_KEYS = ['min', 'max', 'overSelection', 'separation'];
/** Agents of past rounds that a task remembers with its state. */
const RESTING_MAX = 100_000;
const OVER_SELECTION_MAX = 10;

/** Agents that a round invites. */
export const inviteMaxOf = ({ max, overSelection = 1 }: CohortConfig): number =>
  // Without what a product of decimals is beside the one that is meant: 10 x 1.1 are 11.
  Math.ceil(max * overSelection - 1e-6);

/** Throws ConfigError naming the key. */
export function parseCohort(value: unknown): CohortConfig {
  const cohort = record(value, 'cohort');
  requireKeys(cohort, COHORT_KEYS, 'cohort');
  const min = whole(cohort, 'min', 'cohort.min', 1, COHORT_MAX);
  const max = whole(cohort, 'max', 'cohort.max', min, COHORT_MAX);
  const { overSelection = 1 } = cohort;
  if (typeof overSelection !== 'number' || !(overSelection >= 1 && overSelection <= OVER_SELECTION_MAX)) {
    throw new ConfigError(
      `cohort.overSelection is ${JSON.stringify(overSelection)}: give a number from 1 to ${OVER_SELECTION_MAX}, such as 1.3 to invite 130 agents for 100 updates`,
      'cohort.overSelection',
    );
  }
  const separation =
    cohort['separation'] === undefined ? 0 : whole(cohort, 'separation', 'cohort.separation', 0, 10_000);
  return {
    min,
    max,
    ...(overSelection === 1 ? {} : { overSelection }),
    ...(separation === 0 ? {} : { separation }),
  };
}

/** Throws ConfigError where the agents of so many rounds are more than a task remembers. */
export function requireSeparation({ separation = 0 }: CohortConfig, updatesMax: number): void {
  if (separation * updatesMax <= RESTING_MAX) return;
  throw new ConfigError(
    `cohort.separation ${separation} with up to ${updatesMax} updates a round are ${separation * updatesMax} agents to remember, and ${RESTING_MAX} is the most: lower one of the two`,
    'cohort.separation',
  );
}
