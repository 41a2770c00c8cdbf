import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
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
  inviteMax: 3,
  collectMs: 1000,
  pauseMs: 10,
  gatherMs: 100,
  graceMs: 50,
  roundsMax: 2,
  separation: 0,
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

/** Three updates close a round of five agents. */
const more: RoundPolicy = { ...policy, inviteMax: 5 };
const stepped = (state: RoundState, by: RoundPolicy, ...events: RoundEvent[]): RoundState =>
  events.reduce((before, event) => step(before, event, by).state, state);

describe('over-selection', () => {
  const five = stepped(firstState(7), more, tick(0, 'a', 'b', 'c', 'd', 'e')) as Collecting;
  const full = stepped(five, more, update('a'), update('b'), update('c'));

  test('more agents are invited than are needed, once they had time to come', () => {
    expect(five.cohort).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(stepped(firstState(7), more, tick(99, 'a', 'b', 'c')).phase).toBe('Idle');
    expect(stepped(firstState(7), more, tick(100, 'a', 'b', 'c'))).toMatchObject({ cohort: ['a', 'b', 'c'] });
  });

  test('Collecting -> Publishing: the maximum of updates is there, whoever is missing', () => {
    expect(full).toMatchObject({ phase: 'Publishing', surplus: { round: 1, agents: ['d', 'e'] } });
    // Somebody who is away or out is not needed either.
    const out: RoundEvent = { type: 'AgentOut', nowMs: 1, agentId: 'e', round: 1 };
    expect(stepped(five, more, out, update('a'), update('b'), update('d'))).toMatchObject({ phase: 'Publishing' });
  });

  test('an update that was not needed any more is refused by a reason of its own, until the next round closes', () => {
    const published = stepped(full, more, { type: 'Published', nowMs: 300, version: 8, agents: ['a', 'b', 'c'] });
    const next = stepped(published, more, tick(310, 'a', 'b', 'c', 'd', 'e'));
    for (const state of [full, published, next]) {
      expect(verdictOn(state, update('d'))).toBe('round-full');
      expect(verdictOn(state, update('z'))).not.toBe('round-full');
      expect(verdictOn(state, update('a'))).not.toBe('round-full');
    }
    const of2 = (agentId: string) => update(agentId, 400, 2, 8);
    expect(verdictOn(next, of2('d'))).toBe('accepted');
    const second = stepped(next, more, of2('c'), of2('d'), of2('e'));
    expect(verdictOn(second, of2('a'))).toBe('round-full');
    expect(
      verdictOn(stepped(second, more, { type: 'Published', nowMs: 500, version: 9, agents: [] }), update('d')),
    ).toBe('stale-round');
  });

  test('who misses the deadline is late, and not surplus', () => {
    const late = stepped(five, more, update('a'), update('b'), tick(1000));
    expect(late.phase).toBe('Publishing');
    expect(verdictOn(late, update('c'))).toBe('not-collecting');
    expect(
      verdictOn(stepped(late, more, { type: 'Published', nowMs: 1001, version: 8, agents: [] }), update('c')),
    ).toBe('stale-round');
  });

  test('a full round that lost an update is open again, for everybody', () => {
    const gone: RoundEvent = { type: 'Withdrawn', nowMs: 500, updateIds: ['update of a'] };
    const reopened = stepped(full, more, gone);
    expect(reopened).toMatchObject({ phase: 'Collecting', deadlineMs: 1500 });
    expect(verdictOn(reopened, update('d'))).toBe('accepted');
  });
});

describe('a minimum of time', () => {
  const timed: RoundPolicy = { ...policy, collectMinMs: 400 };
  const open = stepped(firstState(7), timed, tick(0, 'a', 'b', 'c')) as Collecting;

  test('Collecting -> Publishing: the minimum of updates is enough once it has passed, and not before', () => {
    const two = stepped(open, timed, update('a', 100), update('b', 200));
    expect(stepped(two, timed, tick(399)).phase).toBe('Collecting');
    expect(stepped(two, timed, tick(400)).phase).toBe('Publishing');
    const one = stepped(open, timed, update('a', 100), tick(400));
    expect(one.phase).toBe('Collecting');
    expect(stepped(one, timed, update('b', 401)).phase).toBe('Publishing');
  });

  test('the maximum of updates closes the round before', () => {
    expect(stepped(open, timed, update('a', 1), update('b', 2), update('c', 3)).phase).toBe('Publishing');
  });

  test('who is out or away is still waited for until then', () => {
    const away: RoundEvent[] = [
      { type: 'AgentOut', nowMs: 10, agentId: 'c', round: 1 },
      { type: 'AgentAway', nowMs: 10, agentId: 'b' },
    ];
    expect(stepped(open, timed, ...away, update('a', 20), update('b', 30)).phase).toBe('Collecting');
  });

  test('it is missed only with the maximum of time', () => {
    expect(step(stepped(open, timed, update('a')), tick(1000), timed).effects).toMatchObject([
      { type: 'AbandonRound' },
    ]);
  });

  test('a crash gives the round its time again, the minimum as well', () => {
    const again = stepped(open, timed, { type: 'Recovered', nowMs: 5000 }, update('a', 5100), update('b', 5200));
    expect(again.phase).toBe('Collecting');
    expect(stepped(again, timed, tick(5400)).phase).toBe('Publishing');
  });
});

test('a round never closes outside of its windows, whatever comes when', () => {
  const agents = ['a', 'b', 'c', 'd', 'e', 'f'];
  const event = fc.record({ nowMs: fc.nat(40), agentId: fc.constantFrom(...agents), what: fc.nat(4) });
  const policies = fc.record({
    cohortMin: fc.integer({ min: 1, max: 3 }),
    cohortMax: fc.integer({ min: 3, max: 5 }),
    inviteMax: fc.integer({ min: 5, max: 6 }),
    collectMinMs: fc.option(fc.integer({ min: 0, max: 1000 }), { nil: undefined }),
  });
  fc.assert(
    fc.property(policies, fc.array(event, { maxLength: 60 }), ({ collectMinMs, ...counts }, events) => {
      const by = { ...policy, ...counts, ...(collectMinMs === undefined ? {} : { collectMinMs }) };
      let state = stepped(firstState(7), by, tick(100, ...agents));
      let nowMs = 100;
      for (const { nowMs: later, agentId, what } of events) {
        nowMs += later;
        const given: RoundEvent[] = [
          tick(nowMs),
          update(agentId, nowMs),
          { type: 'AgentAway', nowMs, agentId },
          { type: 'AgentBack', nowMs, agentId },
          { type: 'AgentOut', nowMs, agentId, round: 1 },
        ];
        const { state: next, effects } = step(state, given[what]!, by);
        const [effect] = effects;
        if (effect?.type === 'Publish') {
          const { length } = effect.accepted;
          expect(length).toBeGreaterThanOrEqual(by.cohortMin);
          expect(length).toBeLessThanOrEqual(by.cohortMax);
          if (length < by.cohortMax && collectMinMs !== undefined && length < agents.length)
            expect(nowMs - 100).toBeGreaterThanOrEqual(length === by.inviteMax ? 0 : collectMinMs);
        }
        if (effect?.type === 'AbandonRound') expect(nowMs - 100).toBeGreaterThanOrEqual(by.collectMs);
        if (next.phase !== 'Collecting') return;
        // At the latest with the maximum of time, and with the maximum of updates.
        expect(nowMs - 100 < by.collectMs || what !== 0).toBe(true);
        expect(next.accepted.length).toBeLessThan(by.cohortMax);
        state = next;
      }
    }),
  );
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
  const { state } = step(publishing, { type: 'Published', nowMs: 300, version: 8, agents: ['a', 'b', 'c'] }, policy);
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

describe('separation', () => {
  const apart: RoundPolicy = { ...policy, cohortMax: 2, inviteMax: 2, separation: 2, roundsMax: 0 };

  /** A whole round of those who are invited; undefined where none can begin. */
  function played(state: RoundState, by: RoundPolicy, nowMs: number, ready: readonly string[]) {
    const begun = step(state, tick(nowMs, ...ready), by).state;
    if (begun.phase !== 'Collecting') return undefined;
    const { cohort, round, version } = begun;
    const all = cohort.map((agentId) => update(agentId, nowMs, round, version));
    const closed = stepped(begun, by, ...all);
    return { cohort, state: stepped(closed, by, { type: 'Published', nowMs, version: version + 1, agents: cohort }) };
  }

  test('who took part is left out of the next rounds, and then welcome again', () => {
    const agents = ['a', 'b', 'c', 'd', 'e', 'f'];
    let state: RoundState = firstState(1);
    const cohorts: string[][] = [];
    for (let round = 0; round < 4; round++) {
      const next = played(state, apart, 1000 * round, agents)!;
      cohorts.push([...next.cohort]);
      state = next.state;
    }
    expect(cohorts.slice(0, 3).flat().sort()).toEqual(agents);
    expect(cohorts[3]).toEqual(cohorts[0]);
  });

  test('it holds even where the minimum cannot be met: the round waits for others', () => {
    const one = played(firstState(1), apart, 0, ['a', 'b', 'c'])!;
    expect(step(one.state, tick(5_000, 'a', 'b', 'c'), apart).state).toBe(one.state);
    expect(step(one.state, tick(5_000, 'a', 'b', 'c', 'd'), apart).state).toMatchObject({ phase: 'Collecting' });
  });

  test('who was invited and is in no version did not take part', () => {
    const open = stepped(firstState(1), apart, tick(0, 'a', 'b'));
    const abandoned = stepped(open, apart, tick(1000));
    expect(abandoned.phase).toBe('Idle');
    expect(stepped(abandoned, apart, tick(2000, 'a', 'b'))).toMatchObject({ cohort: ['a', 'b'] });
  });

  test('no agent is in two versions of rounds that are too near, and what is remembered stays bounded', () => {
    const policies = fc.record({
      separation: fc.integer({ min: 0, max: 5 }),
      cohortMax: fc.integer({ min: 2, max: 4 }),
    });
    const turns = fc.array(fc.subarray(Array.from({ length: 20 }, (_, i) => `agent-${i}`)), { maxLength: 30 });
    fc.assert(
      fc.property(policies, turns, ({ separation, cohortMax }, all) => {
        const by = { ...apart, separation, cohortMax, inviteMax: cohortMax };
        let state: RoundState = firstState(1);
        const last = new Map<string, number>();
        for (const [turn, ready] of all.entries()) {
          const next = played(state, by, 1000 * turn, ready);
          if (next === undefined) continue;
          state = next.state;
          for (const agentId of next.cohort) {
            expect(state.round - (last.get(agentId) ?? -100)).toBeGreaterThan(separation);
            last.set(agentId, state.round);
          }
          expect(state.recent?.flatMap(({ agents }) => agents).length ?? 0).toBeLessThanOrEqual(separation * cohortMax);
          // It is JSON, and says the same when it is read again.
          state = JSON.parse(JSON.stringify(state)) as RoundState;
        }
      }),
    );
  });

  test('a rollback and an abandoned round forget nobody', () => {
    const one = played(firstState(1), apart, 0, ['a', 'b'])!;
    const back = stepped(one.state, apart, { type: 'Rebased', nowMs: 10, version: 9 });
    expect(step(back, tick(5_000, 'a', 'b'), apart).state).toBe(back);
    const open = stepped(one.state, apart, tick(5_000, 'c', 'd'));
    const abandoned = stepped(open, apart, tick(9_000));
    expect(stepped(abandoned, apart, tick(10_000, 'a', 'b', 'c'))).toMatchObject({ phase: 'Idle' });
  });
});

describe('a candidate that agents evaluate', () => {
  const gated: RoundPolicy = {
    ...policy,
    separation: 1,
    roundsMax: 0,
    evaluation: { cohortMin: 1, cohortMax: 2, collectMs: 500 },
  };
  const all = ['a', 'b', 'c', 'd', 'e', 'f'];
  const judged = (nowMs: number, judges: readonly string[], ready = all): RoundEvent => ({
    type: 'Tick',
    nowMs,
    ready,
    judges,
  });
  const open = stepped(firstState(7), gated, tick(0, ...all)) as Collecting;
  const delivered = open.cohort.map((agentId) => update(agentId));
  const candidate = { number: 4, updates: delivered.map(({ agentId, updateId }) => ({ agentId, updateId })) };
  const proposed = stepped(open, gated, ...delivered, { type: 'Proposed', nowMs: 300, candidate });
  const evaluating = stepped(proposed, gated, judged(310, ['x', 'y', 'z']));
  const report = (agentId: string) => ({ ...update(agentId, 320, 2), updateId: `report of ${agentId}` });

  test('Publishing -> Idle: what the round made waits, and the model is what it was', () => {
    expect(proposed).toMatchObject({ phase: 'Idle', round: 1, published: 0, version: 7, startAtMs: 300, candidate });
    expect(verdictOn(proposed, delivered[0]!)).toBe('duplicate');
  });

  test('Idle -> Collecting: those who may judge are invited, as the evaluation says, and nobody to train', () => {
    expect(stepped(proposed, gated, judged(310, []))).toMatchObject({ phase: 'Idle' });
    expect(evaluating).toMatchObject({ phase: 'Collecting', round: 2, version: 7, deadlineMs: 810, candidate });
    expect((evaluating as Collecting).cohort).toHaveLength(2);
    expect((evaluating as Collecting).cohort.every((agentId) => 'xyz'.includes(agentId))).toBe(true);
    for (const one of delivered) expect(verdictOn(evaluating, one)).toBe('duplicate');
  });

  test('Collecting -> Idle: too few judge in time, and it is asked again', () => {
    const { state, effects } = step(evaluating, tick(810), gated);
    expect(effects).toMatchObject([{ type: 'AbandonRound', reason: '0 of at least 1 updates came within 500 ms' }]);
    expect(state).toMatchObject({ phase: 'Idle', round: 2, candidate });
    expect(stepped(state, gated, judged(900, ['x', 'y']))).toMatchObject({ phase: 'Collecting', round: 3, candidate });
  });

  test('Publishing -> Idle: it is a version, whose agents rest for a round of training, evaluations being none', () => {
    const { cohort } = evaluating as Collecting;
    const closed = stepped(evaluating, gated, ...cohort.map(report));
    expect(closed.phase).toBe('Publishing');
    const agents = candidate.updates.map(({ agentId }) => agentId);
    const out = stepped(closed, gated, { type: 'Published', nowMs: 400, version: 8, agents });
    expect(out).toMatchObject({ phase: 'Idle', round: 2, published: 1, version: 8, turns: 1 });
    expect(out.candidate).toBeUndefined();
    const next = stepped(out, gated, tick(5_000, ...all)) as Collecting;
    expect(next).toMatchObject({ round: 3, turns: 2 });
    expect(next.cohort.some((agentId) => agents.includes(agentId))).toBe(false);
  });

  test('Publishing -> Idle: it is refused, and the task goes on from the champion with whoever is there', () => {
    const closed = stepped(evaluating, gated, ...(evaluating as Collecting).cohort.map(report));
    const out = stepped(closed, gated, { type: 'Refused', nowMs: 400 });
    expect(out).toMatchObject({ phase: 'Idle', round: 2, published: 0, version: 7, startAtMs: 410 });
    expect(out.candidate).toBeUndefined();
    expect(stepped(out, gated, tick(5_000, 'a', 'b'))).toMatchObject({ phase: 'Collecting', cohort: ['a', 'b'] });
  });

  test('a gate may refuse at once', () => {
    const out = stepped(open, gated, ...delivered, { type: 'Refused', nowMs: 400 });
    expect(out).toMatchObject({ phase: 'Idle', round: 1, published: 0, version: 7 });
  });

  test('a crash forgets the reports and not the candidate, and gives the evaluation its time again', () => {
    const again = stepped(evaluating, gated, report((evaluating as Collecting).cohort[0]!), {
      type: 'Recovered',
      nowMs: 1000,
    });
    expect(again).toMatchObject({ phase: 'Collecting', accepted: [], deadlineMs: 1500, candidate });
  });

  test('a rollback drops it', () => {
    for (const state of [proposed, evaluating])
      expect(stepped(state, gated, { type: 'Rebased', nowMs: 900, version: 9 }).candidate).toBeUndefined();
  });
});

describe('rounds that measure', () => {
  const once: RoundPolicy = { ...policy, oncePerVersion: true, roundsMax: 0 };

  test('a version is measured once, and the next one when it is there', () => {
    const open = stepped(firstState(7), once, tick(0, 'a', 'b', 'c'));
    const closed = stepped(open, once, update('a'), update('b'), update('c'));
    const done = stepped(closed, once, { type: 'Published', nowMs: 300, version: 7, agents: ['a', 'b', 'c'] });
    expect(done).toMatchObject({ phase: 'Idle', published: 1, version: 7, measured: 7 });
    expect(stepped(done, once, tick(9_000, 'a', 'b', 'c'))).toBe(done);
    const moved = stepped(done, once, { type: 'Rebased', nowMs: 9_000, version: 8 });
    expect(stepped(moved, once, tick(9_100, 'a', 'b', 'c'))).toMatchObject({
      phase: 'Collecting',
      version: 8,
      round: 2,
    });
  });
});

describe('an evaluator by whom the others are judged', () => {
  const rooted: RoundPolicy = { ...policy, needsRoot: true };
  const judged = (nowMs: number, judges: readonly string[]): RoundEvent => ({
    type: 'Tick',
    nowMs,
    ready: ['a', 'b', 'c'],
    judges,
  });
  const open = stepped(firstState(7), rooted, judged(0, ['y', 'x'])) as Collecting;

  test('no round begins without one, and one is enough', () => {
    expect(stepped(firstState(7), rooted, judged(0, [])).phase).toBe('Idle');
    expect(open).toMatchObject({ root: 'x', cohort: ['a', 'b', 'c', 'x'] });
  });

  test('one that cannot train is not asked for ever: which of them it is changes with the round', () => {
    const roots = Array.from({ length: 20 }, (_, round) => {
      const idle: RoundState = { ...firstState(7), round };
      return (stepped(idle, rooted, judged(0, ['y', 'x'])) as Collecting).root;
    });
    expect(new Set(roots)).toEqual(new Set(['x', 'y']));
  });

  test('a round needs its update besides the others', () => {
    const three = stepped(open, rooted, update('a'), update('b'), update('c'));
    expect(three.phase).toBe('Collecting');
    expect(stepped(three, rooted, update('x')).phase).toBe('Publishing');
    // It is none of those that the minimum counts.
    expect(stepped(open, rooted, update('a'), update('x'), tick(999)).phase).toBe('Collecting');
    expect(step(three, tick(1000), rooted).effects).toMatchObject([
      { type: 'AbandonRound', reason: 'the update of evaluator x did not come within 1000 ms' },
    ]);
    expect(stepped(open, rooted, update('a'), update('b'), update('x'), tick(1000)).phase).toBe('Publishing');
  });
});

test('Collecting: a part counts as a whole, and closes the round only once all of it is in', () => {
  const updates = ['a', 'b', 'c'].map((agentId) => ({ agentId, updateId: `update of ${agentId}` }));
  const away = after(collecting, { type: 'AgentAway', nowMs: 100, agentId: 'b' });
  const { state, effects } = step(away, { type: 'PartReceived', nowMs: 200, round: 1, updates }, policy);
  expect(state).toMatchObject({ phase: 'Publishing', accepted: updates, away: {} });
  expect(effects).toEqual([{ type: 'Publish', round: 1, version: 7, accepted: updates }]);
  expect(step(collecting, { type: 'PartReceived', nowMs: 200, round: 2, updates }, policy).state).toBe(collecting);
});
