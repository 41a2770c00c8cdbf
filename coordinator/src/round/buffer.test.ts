import { parseAsynchronous } from '@commonweight/core';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bufferVerdict } from './buffer.ts';
import {
  firstState,
  step,
  type Collecting,
  type RoundEffect,
  type RoundEvent,
  type RoundPolicy,
  type RoundState,
} from './round.ts';

const asynchronous = parseAsynchronous({ bufferSize: 3, stalenessMax: 2 }, '');
const policy: RoundPolicy = {
  cohortMin: 2,
  cohortMax: 3,
  inviteMax: 3,
  collectMs: 1000,
  pauseMs: 0,
  gatherMs: 100,
  graceMs: 50,
  separation: 0,
  roundsMax: 0,
  seed: 1,
  asynchronous,
};

const tick = (nowMs: number, ...ready: string[]): RoundEvent => ({ type: 'Tick', nowMs, ready });
const update = (agentId: string, round = 1, baseVersion = 7, nowMs = 200): RoundEvent & { type: 'UpdateReceived' } => ({
  type: 'UpdateReceived',
  nowMs,
  agentId,
  updateId: `${agentId} on ${baseVersion}`,
  round,
  baseVersion,
});
const published = (version: number): RoundEvent => ({ type: 'Published', nowMs: 300, version, agents: [] });

function after(state: RoundState, ...events: RoundEvent[]): { state: RoundState; effects: RoundEffect[] } {
  const effects: RoundEffect[] = [];
  for (const event of events) {
    const stepped = step(state, event, policy);
    ({ state } = stepped);
    effects.push(...stepped.effects);
  }
  return { state, effects };
}

test('whoever is free is invited at once, up to as many as may train', () => {
  const { state, effects } = after(firstState(7), tick(0, 'a'), tick(1, 'b'), tick(2, 'd', 'c'));
  expect(effects).toMatchObject([
    { type: 'Invite', round: 1, version: 7, cohort: ['a'] },
    { type: 'InviteMore', cohort: ['b'] },
    { type: 'InviteMore', cohort: [expect.any(String)] },
  ]);
  const { cohort, training } = state as Collecting;
  expect(Object.keys(training ?? {}).sort()).toEqual([...cohort].sort());
  const left = ['a', 'b', 'c', 'd'].filter((id) => !cohort.includes(id));
  expect(after(state, tick(3, ...left)).effects).toEqual([]);
});

test('a full buffer becomes a version, and the next one is open at once', () => {
  const full = after(firstState(7), tick(0, 'a', 'b', 'c'), update('a'), update('b'), update('c'));
  expect(full.effects.at(-1)).toMatchObject({ type: 'Publish', round: 1, version: 7 });
  const { state } = after(full.state, published(8));
  expect(state).toMatchObject({ phase: 'Collecting', round: 2, version: 8, published: 1, cohort: [], accepted: [] });
});

test('an agent that is slow delivers into the buffer that is open then, and holds a place until it does', () => {
  const { state } = after(
    firstState(7),
    tick(0, 'a', 'b', 'slow'),
    update('a'),
    update('b'),
    // Invited again only on the next version.
    tick(210, 'a', 'b'),
    update('d', 1, 7),
    published(8),
    tick(310, 'a', 'b', 'd'),
  );
  expect(state).toMatchObject({ round: 2, training: { slow: 1000 } });
  expect((state as Collecting).cohort).toHaveLength(2);
  expect(bufferVerdict(state, update('slow', 1, 7), asynchronous)).toBe('accepted');
  expect(after(state, update('slow', 1, 7)).state).toMatchObject({ accepted: [{ agentId: 'slow' }] });
});

test('every refusal has its reason and changes nothing', () => {
  const { state } = after(firstState(7), tick(0, 'a', 'b', 'c'), update('a'));
  const at = (event: RoundEvent & { type: 'UpdateReceived' }) => {
    expect(after(state, event).state).toBe(state);
    return bufferVerdict(state, event, asynchronous);
  };
  expect(at(update('a'))).toBe('duplicate');
  expect(at({ ...update('a'), updateId: 'another' })).toBe('not-collecting');
  expect(at(update('b', 2))).toBe('stale-round');
  expect(at(update('b', 1, 8))).toBe('wrong-base-version');
  expect(at(update('b', 1, 0))).toBe('wrong-base-version');
  expect(at(update('b', 1, 4))).toBe('stale-round');
  expect(bufferVerdict(state, update('b', 1, 5), asynchronous)).toBe('accepted');
  expect(bufferVerdict(firstState(7), update('a'), asynchronous)).toBe('stale-round');
});

test('where nobody trains and nobody is free, the minimum is a version', () => {
  const two = after(firstState(7), tick(0, 'a', 'b'), update('a'), update('b', 1, 7, 250));
  expect(after(two.state, tick(349, 'a', 'b')).effects).toEqual([]);
  expect(after(two.state, tick(350, 'a', 'b')).effects).toMatchObject([{ type: 'Publish' }]);
});

test('an agent that trains for longer than its time holds up nobody, and its update counts all the same', () => {
  const two = after(firstState(7), tick(0, 'a', 'b', 'slow'), update('a'), update('b'));
  expect(after(two.state, tick(999)).effects).toEqual([]);
  expect(after(two.state, tick(1000)).effects).toMatchObject([{ type: 'Publish' }]);
  const one = after(firstState(7), tick(0, 'a', 'slow'), update('a'), tick(1000));
  expect(one.state).toMatchObject({ phase: 'Collecting', cohort: [], deadlineMs: 2000, training: {} });
  expect(after(one.state, tick(1001, 'slow')).effects).toMatchObject([{ type: 'InviteMore', cohort: ['slow'] }]);
  expect(bufferVerdict(one.state, update('slow'), asynchronous)).toBe('accepted');
});

test('a crash forgets what was in the buffer and who trained', () => {
  const two = after(firstState(7), tick(0, 'a', 'b'), update('a'), { type: 'Recovered', nowMs: 500 });
  expect(two.state).toMatchObject({ round: 1, accepted: [], cohort: [], training: {}, deadlineMs: 1500 });
  expect(bufferVerdict(two.state, update('a'), asynchronous)).toBe('accepted');
});

test('it ends after its versions', () => {
  const once = { ...policy, roundsMax: 1 };
  let state: RoundState = firstState(7);
  for (const event of [tick(0, 'a', 'b', 'c'), update('a'), update('b'), update('c'), published(8)]) {
    ({ state } = step(state, event, once));
  }
  expect(state).toMatchObject({ phase: 'Idle', published: 1 });
  expect(step(state, tick(400, 'a'), once).effects).toEqual([{ type: 'Finish' }]);
});

test('whatever happens: no update twice, no agent twice in a buffer, nobody too many at once, nothing too old', () => {
  const agents = ['a', 'b', 'c', 'd', 'e'];
  const agent = fc.constantFrom(...agents);
  const what = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('update'), agent, back: fc.nat(4) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('tick'), ready: fc.subarray(agents), ms: fc.nat(1200) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('away', 'back', 'out', 'gone', 'crash'), agent }) },
  );
  fc.assert(
    fc.property(fc.array(what, { maxLength: 120 }), (script) => {
      let state: RoundState = firstState(1);
      let nowMs = 0;
      const counted = new Set<string>();
      for (const one of script) {
        nowMs += 'ms' in one ? one.ms : 1;
        const { round, version } = state;
        const events: Record<string, () => RoundEvent> = {
          update: () => {
            const { agent: agentId, back } = one as { agent: string; back: number };
            const base = Math.max(1, version - back);
            return { ...update(agentId, round, base, nowMs) };
          },
          tick: () => tick(nowMs, ...(one as { ready: string[] }).ready),
          away: () => ({ type: 'AgentAway', nowMs, agentId: (one as { agent: string }).agent }),
          back: () => ({ type: 'AgentBack', nowMs, agentId: (one as { agent: string }).agent }),
          out: () => ({ type: 'AgentOut', nowMs, agentId: (one as { agent: string }).agent, round }),
          gone: () => ({
            type: 'Withdrawn',
            nowMs,
            updateIds: [`${(one as { agent: string }).agent} on ${version}`],
          }),
          crash: () => ({ type: 'Recovered', nowMs }),
        };
        const event = events[one.kind]!();
        // The store's receipts see to that.
        if (event.type === 'UpdateReceived' && counted.has(event.updateId)) continue;
        const stepped = step(state, event, policy);
        state = JSON.parse(JSON.stringify(stepped.state)) as RoundState;
        for (const effect of stepped.effects) {
          if (effect.type === 'Invite' || effect.type === 'InviteMore') {
            expect(effect.cohort.length).toBeGreaterThan(0);
          } else if (effect.type === 'Publish') {
            expect(new Set(effect.accepted.map(({ agentId }) => agentId)).size).toBe(effect.accepted.length);
            expect(effect.accepted.length).toBeLessThanOrEqual(asynchronous.bufferSize);
            for (const { updateId } of effect.accepted) {
              expect(counted.has(updateId)).toBe(false);
              counted.add(updateId);
              const staleness = version - Number(updateId.split(' ').at(-1));
              expect(staleness).toBeLessThanOrEqual(asynchronous.stalenessMax);
            }
            ({ state } = step(
              state,
              {
                type: 'Published',
                nowMs,
                version: version + 1,
                agents: effect.accepted.map(({ agentId }) => agentId),
              },
              policy,
            ));
          }
        }
        if (state.phase === 'Collecting') {
          expect(Object.keys(state.training ?? {}).length).toBeLessThanOrEqual(policy.cohortMax);
          expect(new Set(state.cohort).size).toBe(state.cohort.length);
        }
      }
    }),
    { numRuns: 300 },
  );
});
