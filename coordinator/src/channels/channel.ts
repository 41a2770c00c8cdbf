/**
 * The life of a channel as functions from one state to the next. Each state has a higher revision than the one before, and is signed.
 *
 *   at version 5 -> 7 promoted to 10 % -> 50 % -> ... -> at version 7
 *                            |
 *                            v
 *                   taken back: at version 5
 */
import { isLabelValue, isName, LABELS_MAX, LATEST } from '@commonweight/proto';
import { ServiceError } from '../service.ts';
import type { GuardPolicy, Verdict } from './guard.ts';

/** A word that an app says of itself. */
export interface Label {
  key: string;
  value: string;
}

/** The version that a part of a channel's clients get. */
export interface RolloutState {
  version: number;
  percent: number;
  /** Gives each client its place; the same one for all stages, so that whoever has the version keeps it. */
  seed: string;
  cohorts: readonly Label[];
  /** Percentages still to come. */
  stages: readonly number[];
  everyMs: number;
  /** Since when its percentage is what it is. */
  sinceMs: number;
  guard: GuardPolicy;
  needsReports: boolean;
}

export interface ChannelState {
  model: string;
  channel: string;
  revision: number;
  version: number;
  /** What a rollback goes back to; 0 where nothing is known. */
  before: number;
  rollout?: RolloutState;
  /** Why nobody may change it, and no stage is raised. */
  held?: string;
  createdMs: number;
  expiresMs: number;
  /** What happened, the newest last. */
  changes: readonly ChannelChange[];
}

export interface ChannelChange {
  revision: number;
  atMs: number;
  what: string;
}

/** A version for everybody, or for a part of a channel's clients. */
export interface Promotion {
  version: number;
  /** Undefined is everybody. */
  percent?: number;
  cohorts: readonly Label[];
  stages: readonly number[];
  everyMs: number;
  guard: GuardPolicy;
  needsReports: boolean;
}

/** When something happens, and for how long what is signed then holds. */
export interface Moment {
  nowMs: number;
  lifetimeMs: number;
}

const CHANGES_MAX = 32;
const REASON_LENGTH_MAX = 200;
const STAGES_MAX = 16;
const STAGE_MS_MIN = 1_000;
const STAGE_MS_MAX = 366 * 24 * 3_600_000;

/** A channel with its first version, or the next state of one. `seed` is drawn anew for each rollout. */
export function promoted(
  state: ChannelState | undefined,
  of: { model: string; channel: string },
  promotion: Promotion,
  { seed, ...moment }: Moment & { seed: string },
): ChannelState {
  requirePromotable(state, of, promotion);
  const { version, everyMs, guard, needsReports } = promotion;
  const rollout = state?.rollout?.version === version ? state.rollout : undefined;
  const share = promotion.percent ?? promotion.stages[0];
  // Who is raised to another percentage is raised within its cohorts.
  const isKept = promotion.cohorts.length === 0 && share !== undefined && rollout !== undefined;
  const cohorts = isKept ? rollout.cohorts : promotion.cohorts;
  const percent = share ?? 100;
  const isForAll = percent >= 100 && cohorts.length === 0;
  if (state === undefined) {
    if (!isForAll)
      throw wrong(`channel ${of.channel} of ${of.model} has no version yet: promote one to everybody first`);
    const { model, channel } = of;
    const fresh = { model, channel, revision: 0, version: 0, before: 0, createdMs: 0, expiresMs: 0, changes: [] };
    return next({ ...fresh, version }, `version ${version}`, moment);
  }
  if (isForAll) return completed(state, version, moment);
  const stages = promotion.percent === undefined ? promotion.stages.slice(1) : [];
  const raised = { version, percent, cohorts, stages, everyMs, guard, needsReports, sinceMs: moment.nowMs };
  const what = `version ${version} to ${shareOf({ percent, cohorts })}`;
  return next({ ...state, rollout: { ...raised, seed: rollout?.seed ?? seed } }, what, moment);
}

function requirePromotable(
  state: ChannelState | undefined,
  { channel }: { channel: string },
  promotion: Promotion,
): void {
  const { version, percent, cohorts, stages, everyMs } = promotion;
  if (!isName(channel))
    throw wrong(`channel "${channel.slice(0, 80)}" may have up to 64 letters, digits, - and _ only`);
  if (channel === LATEST)
    throw wrong(`${LATEST} is always the newest version: promote to another channel, such as stable`);
  const isShare = (share: number): boolean => share > 0 && share <= 100;
  if (percent !== undefined && !isShare(percent)) throw wrong('a percentage is a number above 0, and up to 100');
  if (percent !== undefined && stages.length > 0) throw wrong('give one percentage, or stages');
  if (cohorts.length > LABELS_MAX || !cohorts.every(({ key, value }) => isName(key) && isLabelValue(value)))
    throw wrong(`a cohort is key=value, with up to 64 characters each; there are ${LABELS_MAX} at most`);
  const isRising = stages.every((share, i) => isShare(share) && share > (stages[i - 1] ?? 0));
  if (stages.length > STAGES_MAX || !isRising || (stages.length > 0 && stages.at(-1) !== 100))
    throw wrong(`stages are up to ${STAGES_MAX} percentages that rise to 100, such as 1,10,50,100`);
  if (stages.length > 0 && !(everyMs >= STAGE_MS_MIN && everyMs <= STAGE_MS_MAX))
    throw wrong('stages need a time for each, from a second to a year');
  if (state?.held !== undefined) throw heldError(state);
  if (state?.rollout !== undefined && state.rollout.version !== version) {
    const share = shareOf(state.rollout);
    throw wrong(
      `version ${state.rollout.version} is on its way to ${share} of ${nameOf(state)}: promote it to everybody, or roll the channel back, first`,
    );
  }
  if (state?.version === version) throw wrong(`${nameOf(state)} has version ${version} already`);
}

/** What time and reports make of a channel; undefined where it stays as it is. A rollout that goes badly ends also while it is held. */
export function advanced(state: ChannelState, verdict: Verdict, moment: Moment): ChannelState | undefined {
  const { rollout } = state;
  const { nowMs, lifetimeMs } = moment;
  if (rollout !== undefined && verdict.is === 'bad') {
    const { rollout: _, ...champion } = state;
    return next(champion, `version ${rollout.version} taken back: ${verdict.why}`, moment);
  }
  const [stage] = rollout?.stages ?? [];
  const isDue = rollout !== undefined && stage !== undefined && nowMs - rollout.sinceMs >= rollout.everyMs;
  if (isDue && state.held === undefined && (!rollout.needsReports || verdict.is === 'good')) {
    if (stage >= 100 && rollout.cohorts.length === 0) return completed(state, rollout.version, moment);
    const raised = { ...rollout, percent: stage, stages: rollout.stages.slice(1), sinceMs: nowMs };
    return next({ ...state, rollout: raised }, `version ${rollout.version} to ${shareOf(raised)}`, moment);
  }
  // Half of its time over, it is signed anew: whoever hears nothing newer then is being kept from it.
  if (nowMs - state.createdMs < lifetimeMs / 2) return undefined;
  return { ...state, revision: state.revision + 1, createdMs: nowMs, expiresMs: nowMs + lifetimeMs };
}

/** Keeps a channel as it is, for a reason, or lets it go on: then the time of its stage begins anew. */
export function held(state: ChannelState, reason: string | undefined, moment: Moment): ChannelState {
  if (reason !== undefined && !(reason.length > 0 && reason.length <= REASON_LENGTH_MAX))
    throw wrong(`a channel is held for a reason in up to ${REASON_LENGTH_MAX} characters`);
  if (reason !== undefined) return next({ ...state, held: reason }, `held: ${reason}`, moment);
  if (state.held === undefined) throw wrong(`${nameOf(state)} is not held`);
  const { held: _, rollout, ...rest } = state;
  const again = rollout === undefined ? {} : { rollout: { ...rollout, sinceMs: moment.nowMs } };
  return next({ ...rest, ...again }, 'released', moment);
}

/** Ends a rollout, or goes back to an older version: that which was there before, where none is named. Also of a channel that is held. */
export function rolledBack(state: ChannelState, version: number | undefined, moment: Moment): ChannelState {
  const { rollout, ...champion } = state;
  if (version === undefined && rollout !== undefined)
    return next(champion, `version ${rollout.version} taken back by hand`, moment);
  const to = version ?? state.before;
  if (to === 0)
    throw wrong(`it is not known what ${nameOf(state)} had before version ${state.version}: say which, with --to`);
  if (to === state.version && rollout === undefined) throw wrong(`${nameOf(state)} has version ${to} already`);
  return next({ ...champion, version: to, before: 0 }, `rolled back to version ${to}`, moment);
}

function completed(state: ChannelState, version: number, moment: Moment): ChannelState {
  const { rollout: _, ...champion } = state;
  return next({ ...champion, version, before: state.version }, `version ${version} to everybody`, moment);
}

function next(state: ChannelState, what: string, { nowMs, lifetimeMs }: Moment): ChannelState {
  const revision = state.revision + 1;
  const changes = [...state.changes, { revision, atMs: nowMs, what }].slice(-CHANGES_MAX);
  return { ...state, revision, createdMs: nowMs, expiresMs: nowMs + lifetimeMs, changes };
}

/** "10 % of region=eu". */
function shareOf({ percent, cohorts }: { percent: number; cohorts: readonly Label[] }): string {
  const of = cohorts.map(({ key, value }) => `${key}=${value}`).join(' or ');
  return `${percent} %${of === '' ? '' : ` of ${of}`}`;
}

const nameOf = ({ model, channel }: { model: string; channel: string }): string => `channel ${channel} of ${model}`;

const heldError = (state: ChannelState): ServiceError =>
  wrong(`${nameOf(state)} is held (${state.held}): release it first`);

const wrong = (message: string): ServiceError => new ServiceError('invalid', message);
