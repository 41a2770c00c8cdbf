import { parseTaskConfig, strategyOf, type TaskConfig } from '@commonweight/coordinator';
import { ConfigError, strategyFrom } from '@commonweight/core';
import type { Dealing } from '@commonweight/edge-agent';
import type { AttackName } from './attacks.ts';

/** All that decides how a simulation goes: the same settings give the same versions, bit for bit. */
export interface Settings {
  /** Where examples come from, such as `mnist`; and those that no client has. */
  data: string;
  test: string;
  /** A kind of model, or a file. */
  model: string;
  clients: number;
  /** Share of the clients that takes part in a round. */
  fraction: number;
  split: Dealing;
  rounds: number;
  seed: number;
  /** Rounds from one measurement to the next. */
  evaluateEvery: number;
  attack?: { name: AttackName; share: number; scale?: number };
  /** Examples of the evaluator that the others are judged by, where the strategy has one: drawn from all that clients have. */
  rootExamples?: number;
  /** Digest of the model whose answers clients learn from. */
  teacher?: string;
  /** Strategy, plan, encoding and caps, as a task has them. */
  task: Record<string, unknown>;
}

/** As in the paper of flTrust. */
export const ROOT_EXAMPLES = 100;

/** Clients that take part in each round. */
export const cohortOf = ({ clients, fraction }: Settings): number => Math.max(1, Math.round(clients * fraction));

/** The task that the settings describe, checked as a coordinator would. Throws ConfigError. */
export function taskOf(settings: Settings): TaskConfig {
  const cohort = cohortOf(settings);
  const { task, rounds, seed } = settings;
  const config = parseTaskConfig(
    JSON.stringify({
      evaluators: ['root'],
      ...task,
      model: 'model',
      rounds,
      seed,
      cohort: { min: cohort, max: cohort },
    }),
  );
  if (strategyOf(config).asynchronous !== undefined) {
    throw new ConfigError(
      'a simulation goes round by round, and this strategy has no rounds: run it with a coordinator and agents',
      'strategy',
    );
  }
  // What of a strategy depends on the number of clients is known here.
  const { name } = config.strategy;
  if (config.strategy['agents'] === undefined && cohort < settings.clients && takesAgents(name)) {
    return { ...config, strategy: { ...config.strategy, agents: settings.clients } };
  }
  return config;
}

const takesAgents = (name: string): boolean => {
  try {
    strategyFrom({ name, agents: 1 });
    return true;
  } catch (error) {
    if (error instanceof ConfigError) return false;
    throw error;
  }
};
