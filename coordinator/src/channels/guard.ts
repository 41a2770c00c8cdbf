/**
 * Whether a rollout goes well, by what clients of its version and of the one before report. Of each client counts one number a
 * window, whatever it says of itself, so that one client moves a mean by its share and no more, and an outlier widens the doubt as
 * much as it moves the mean.
 */
import { addedSpreads, difference, meanOf, NO_SPREAD, type Spread } from '@commonweight/core';
import type { RolloutGuard } from '@commonweight/proto';
import { ServiceError } from '../service.ts';

/** When a rollout is taken back. */
export interface GuardPolicy {
  off: boolean;
  /** Clients of each version, in windows, that have to have reported. */
  clientsMin: number;
  /** Predictions of each version. */
  predictionsMin: number;
  /** Points by which the share of predictions that fail may be higher. */
  errorPointsMax: number;
  /** How many times the p95 latency may be that of the version before. */
  latencyFactorMax: number;
  /** A p95 latency below is never too long. */
  latencyFloorMs: number;
  /** Points of clients that may have taken the version back or refused it. */
  revertPointsMax: number;
  /** Points by which accuracy by feedback may be lower. */
  accuracyPointsMax: number;
}

export const GUARD: GuardPolicy = {
  off: false,
  clientsMin: 5,
  predictionsMin: 100,
  errorPointsMax: 1,
  latencyFactorMax: 2,
  latencyFloorMs: 50,
  revertPointsMax: 5,
  accuracyPointsMax: 2,
};

const RANGES: Readonly<Record<Exclude<keyof GuardPolicy, 'off'>, readonly [number, number]>> = {
  clientsMin: [1, 1e9],
  predictionsMin: [1, 1e12],
  errorPointsMax: [0, 100],
  latencyFactorMax: [1, 1e6],
  latencyFloorMs: [0, 1e9],
  revertPointsMax: [0, 100],
  accuracyPointsMax: [0, 100],
};

/** A policy as it is asked for. Throws ServiceError naming what is wrong with it. */
export function parseGuard(given: RolloutGuard | undefined): GuardPolicy {
  const policy = { ...GUARD, off: given?.off ?? false };
  for (const [name, [min, max]] of Object.entries(RANGES) as [keyof typeof RANGES, [number, number]][]) {
    const value = given?.[name] ?? GUARD[name];
    if (!(value >= min && value <= max))
      throw new ServiceError('invalid', `guard ${name} is a number from ${min} to ${max}`);
    policy[name] = value;
  }
  return policy;
}

/** What clients of one version said; of each client one value a window. */
export interface Evidence {
  clients: number;
  predictions: number;
  /** Share of predictions that failed. */
  failing: Spread;
  /** Binary logarithm of the p95 latency in milliseconds. */
  latency: Spread;
  /** 1 of a client that took the version back or refused it, else 0. */
  reverting: Spread;
  /** Share of right answers, of clients with feedback. */
  accuracy: Spread;
}

/** `unknown` where too few have reported. */
export interface Verdict {
  is: 'unknown' | 'good' | 'bad';
  why: string;
}

/** Standard errors that a difference must be clear of: one in 700 differences by chance is. */
const ERRORS_MIN = 3;

export function verdictOn(policy: GuardPolicy, champion: Evidence, candidate: Evidence): Verdict {
  if (policy.off) return { is: 'unknown', why: 'no guard was wanted' };
  const bad = reverted(policy, champion, candidate);
  if (bad !== undefined) return { is: 'bad', why: bad };
  const { clientsMin, predictionsMin } = policy;
  for (const [who, { clients, predictions }] of [
    ['the version before', champion],
    ['the new version', candidate],
  ] as const) {
    if (clients >= clientsMin && predictions >= predictionsMin) continue;
    const of = `${clients} of ${clientsMin} clients and ${predictions} of ${predictionsMin} predictions`;
    return { is: 'unknown', why: `${of} of ${who} are reported` };
  }
  const worse =
    failing(policy, champion, candidate) ?? slow(policy, champion, candidate) ?? wrong(policy, champion, candidate);
  if (worse !== undefined) return { is: 'bad', why: worse };
  return {
    is: 'good',
    why: `${candidate.clients} clients report nothing worse than ${champion.clients} of the version before`,
  };
}

/**
 * By what was said in windows that follow one another, those of the two versions side by side. The last one alone may be bad, and all
 * together, in which a client counts as much as in one: what it says in each window is no news.
 */
export function verdictOver(
  policy: GuardPolicy,
  champion: readonly Evidence[],
  candidate: readonly Evidence[],
): Verdict {
  const [before, after] = [champion.at(-1), candidate.at(-1)];
  if (before !== undefined && after !== undefined) {
    const last = verdictOn(policy, before, after);
    if (last.is === 'bad') return last;
  }
  return verdictOn(policy, together(champion), together(candidate));
}

function together(windows: readonly Evidence[]): Evidence {
  const said = windows.filter(({ clients }) => clients > 0);
  const mean = (of: (evidence: Evidence) => Spread): Spread => {
    const { count, sum, squares } = said.map(of).reduce(addedSpreads, NO_SPREAD);
    const times = Math.max(1, said.length);
    return { count: count / times, sum: sum / times, squares: squares / times };
  };
  return {
    clients: Math.max(0, ...said.map(({ clients }) => clients)),
    predictions: said.reduce((sum, { predictions }) => sum + predictions, 0),
    failing: mean(({ failing: spread }) => spread),
    latency: mean(({ latency }) => latency),
    reverting: mean(({ reverting }) => reverting),
    accuracy: mean(({ accuracy }) => accuracy),
  };
}

/** One that nobody can use has no predictions to be judged by. */
function reverted(
  { clientsMin, revertPointsMax }: GuardPolicy,
  champion: Evidence,
  candidate: Evidence,
): string | undefined {
  if (candidate.reverting.count < clientsMin) return undefined;
  const before = champion.reverting.count === 0 ? { count: 1, sum: 0, squares: 0 } : champion.reverting;
  if (!isAbove(before, candidate.reverting, revertPointsMax / 100)) return undefined;
  return `${percent(candidate.reverting)} of its clients took it back or refused it, of the version before ${percent(before)}`;
}

function failing({ errorPointsMax }: GuardPolicy, champion: Evidence, candidate: Evidence): string | undefined {
  if (!isAbove(champion.failing, candidate.failing, errorPointsMax / 100)) return undefined;
  return `${percent(candidate.failing)} of its predictions fail, of the version before ${percent(champion.failing)}`;
}

function slow(policy: GuardPolicy, champion: Evidence, candidate: Evidence): string | undefined {
  const { clientsMin, latencyFactorMax, latencyFloorMs } = policy;
  if (Math.min(champion.latency.count, candidate.latency.count) < clientsMin) return undefined;
  const [was, is] = [champion, candidate].map(({ latency }) => 2 ** meanOf(latency)) as [number, number];
  if (is <= latencyFloorMs || !isAbove(champion.latency, candidate.latency, Math.log2(latencyFactorMax)))
    return undefined;
  return `its predictions take ${is.toFixed(1)} ms (p95), those of the version before ${was.toFixed(1)} ms`;
}

function wrong(policy: GuardPolicy, champion: Evidence, candidate: Evidence): string | undefined {
  const { accuracyPointsMax, clientsMin } = policy;
  if (Math.min(champion.accuracy.count, candidate.accuracy.count) < clientsMin) return undefined;
  if (!isAbove(candidate.accuracy, champion.accuracy, accuracyPointsMax / 100)) return undefined;
  return `${percent(candidate.accuracy)} of its answers are right by feedback, of the version before ${percent(champion.accuracy)}`;
}

/** Whether the second mean is higher than the first by more than is allowed, and by more than chance would have it. */
function isAbove(before: Spread, after: Spread, allowed: number): boolean {
  const { mean, error } = difference(after, before);
  return mean > allowed && mean > ERRORS_MIN * error;
}

const percent = (spread: Spread): string => `${(100 * meanOf(spread)).toFixed(1)} %`;
