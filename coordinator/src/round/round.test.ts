import { expect, test } from 'vitest';
import {
  firstState,
  step,
  verdictOn,
  type Collecting,
  type RoundEvent,
  type RoundPolicy,
  type RoundState,
} from './round.ts';

const policy: RoundPolicy = {
  cohortMin: 2,
  cohortMax: 3,
  collectMs: 1000,
  pauseMs: 10,
  gatherMs: 100,
  graceMs: 50,
  roundsMax: 2,
  seed: 1,
};

const tick = (nowMs: number, ...ready: string[]): RoundEvent => ({ type: 'Tick', nowMs, ready });
const update = (agentId: string, nowMs = 200, round = 1, baseVersion = 7): RoundEvent & { type: 'UpdateReceived' } => ({
  type: 'UpdateReceived',
  nowMs,
  agentId,
  updateId: `update of ${agentId}`,
  round,
  baseVersion,
});

const after = (state: RoundState, ...events: RoundEvent[]): RoundState =>
  events.reduce((before, event) => step(before, event, policy).state, state);
const collecting = after(firstState(7), tick(0, 'a', 'b', 'c')) as Collecting;

test('Idle -> Collecting: a full cohort is invited at once', () => {
  const { state, effects } = step(firstState(7), tick(0, 'c', 'a', 'b'), policy);
  expect(effects).toEqual([{ type: 'Invite', round: 1, version: 7, cohort: ['a', 'b', 'c'] }]);
  expect(state).toMatchObject({ phase: 'Collecting', round: 1, version: 7, accepted: [], deadlineMs: 1000 });
});

test('Idle -> Collecting: the minimum is invited once the others had time to come', () => {
  expect(after(firstState(7), tick(99, 'a', 'b')).phase).toBe('Idle');
  expect(after(firstState(7), tick(100, 'a', 'b')).phase).toBe('Collecting');
  expect(after(firstState(7), tick(5000, 'a')).phase).toBe('Idle');
});

test('Idle -> Idle: after a restart a pause begins again at most, whatever date the state was saved under', () => {
  const saved = { ...firstState(7), startAtMs: 9e12 };
  expect(after(saved, { type: 'Recovered', nowMs: 5000 })).toMatchObject({ phase: 'Idle', startAtMs: 5010 });
  const early = { ...firstState(7), startAtMs: 3 };
  expect(after(early, { type: 'Recovered', nowMs: 5000 })).toEqual(early);
});

test('the cohort is drawn by the seed and the round, not by who came first', () => {
  const cohortOf = (...ready: string[]) => (after(firstState(1), tick(0, ...ready)) as Collecting).cohort;
  expect(cohortOf('a', 'b', 'c', 'd', 'e')).toEqual(cohortOf('e', 'd', 'c', 'b', 'a'));
  expect(cohortOf('a', 'b', 'c', 'd', 'e')).toHaveLength(3);
});

test('Collecting -> Publishing: everybody delivered', () => {
  const { state, effects } = step(after(collecting, update('a'), update('b')), update('c'), policy);
  expect(state).toMatchObject({ phase: 'Publishing', round: 1, version: 7 });
  expect(effects).toMatchObject([
    { type: 'Publish', round: 1, accepted: [{ agentId: 'a' }, { agentId: 'b' }, { agentId: 'c' }] },
  ]);
});

test('Collecting -> Publishing: the deadline comes with the minimum', () => {
  const two = after(collecting, update('a'), update('b'));
  expect(after(two, tick(999)).phase).toBe('Collecting');
  expect(after(two, tick(1000)).phase).toBe('Publishing');
});

test('Collecting -> Publishing: who is missing has been away for longer than the grace', () => {
  const two = after(collecting, update('a'), { type: 'AgentAway', nowMs: 200, agentId: 'c' }, update('b', 210));
  expect(two.phase).toBe('Collecting');
  expect(after(two, tick(249)).phase).toBe('Collecting');
  expect(after(two, tick(250)).phase).toBe('Publishing');
  expect(after(two, { type: 'AgentBack', nowMs: 220, agentId: 'c' }, tick(250)).phase).toBe('Collecting');
});

test('Collecting -> Publishing: an agent that is out is not waited for', () => {
  const out: RoundEvent = { type: 'AgentOut', nowMs: 200, agentId: 'c', round: 1 };
  expect(after(collecting, update('a'), update('b'), out).phase).toBe('Publishing');
  expect(after(collecting, update('a'), out).phase).toBe('Collecting');
  expect(after(collecting, update('a'), update('b'), { ...out, round: 0 }).phase).toBe('Collecting');
  // That it comes back changes nothing, unless it delivers after all.
  const back: RoundEvent = { type: 'AgentBack', nowMs: 210, agentId: 'c' };
  expect(after(collecting, out, back, update('a'), update('b')).phase).toBe('Publishing');
  expect(after(collecting, out, back, update('c'), update('a'))).toMatchObject({ phase: 'Collecting', away: {} });
});

test('updates that went with a replica are missing again, and there is time to offer them', () => {
  const gone: RoundEvent = { type: 'Withdrawn', nowMs: 500, updateIds: ['update of a'] };
  const two = after(collecting, update('a'), update('b'));
  const one = after(two, gone);
  expect(one).toMatchObject({ phase: 'Collecting', accepted: [{ agentId: 'b' }], deadlineMs: 1500 });
  expect(verdictOn(one, update('a'))).toBe('accepted');
  const publishing = after(two, update('c'));
  expect(after(publishing, gone)).toMatchObject({ phase: 'Collecting', cohort: ['a', 'b', 'c'] });
  expect(after(two, { ...gone, updateIds: ['z'] })).toBe(two);
});

test('Collecting -> Idle: the deadline comes without the minimum', () => {
  const { state, effects } = step(after(collecting, update('a')), tick(1000), policy);
  expect(state).toEqual({ phase: 'Idle', round: 1, published: 0, version: 7, startAtMs: 1010 });
  expect(effects).toEqual([{ type: 'AbandonRound', round: 1, reason: '1 of at least 2 updates came within 1000 ms' }]);
});

test('Publishing -> Idle: the version is out', () => {
  const publishing = after(collecting, update('a'), update('b'), update('c'));
  const { state } = step(publishing, { type: 'Published', nowMs: 300, version: 8 }, policy);
  expect(state).toEqual({ phase: 'Idle', round: 1, published: 1, version: 8, startAtMs: 310 });
});

test('a task ends after its rounds', () => {
  const done: RoundState = { phase: 'Idle', round: 2, published: 2, version: 9, startAtMs: 0 };
  expect(step(done, tick(1, 'a', 'b', 'c'), policy)).toEqual({ state: done, effects: [{ type: 'Finish' }] });
});

test('a crash forgets the accepted updates and gives the round its time again', () => {
  const recovered = after(collecting, update('a'), { type: 'Recovered', nowMs: 5000 });
  expect(recovered).toEqual({ ...collecting, deadlineMs: 6000 });
  expect(verdictOn(recovered, update('a'))).toBe('accepted');
});

test('every refusal has its reason and changes nothing', () => {
  const one = after(collecting, update('a'));
  expect(verdictOn(one, update('b', 0, 0))).toBe('stale-round');
  expect(verdictOn(one, update('b', 0, 2))).toBe('stale-round');
  expect(verdictOn(one, update('z'))).toBe('not-invited');
  expect(verdictOn(one, update('b', 0, 1, 6))).toBe('wrong-base-version');
  expect(verdictOn(one, update('a'))).toBe('duplicate');
  expect(verdictOn(one, { ...update('a'), updateId: 'another' })).toBe('not-collecting');
  expect(verdictOn(firstState(7), update('a', 0, 0))).toBe('stale-round');
  const publishing = after(one, update('b'), update('c'));
  expect(verdictOn(publishing, update('b'))).toBe('duplicate');
  expect(verdictOn(publishing, { ...update('b'), updateId: 'another' })).toBe('not-collecting');
  for (const refused of [update('z'), update('b', 0, 2), update('a')]) expect(after(one, refused)).toBe(one);
});
