import { seeded } from '@commonweight/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { playFleet } from '../../test/support/leaving-fleet.ts';
import { RETURN_MS_MAX, ReturnCalendar, returnFor, type Call } from './return-time.ts';
import { callOf, typicalMs } from './round/call.ts';
import type { Collecting, Idle, RoundPolicy } from './round/round.ts';

const NOW_MS = 1_767_225_607_000;
const uniform = (seed: number): (() => number) => seeded(seed).uniform;

/** When each of a fleet comes back that is sent away at one instant. */
const timesOf = (agents: number, call: Call | undefined, seed = 1): number[] => {
  const random = uniform(seed);
  return Array.from({ length: agents }, () => returnFor(call, { agents, nowMs: NOW_MS, uniform: random }));
};

const perSecondMax = (times: readonly number[]): number => {
  const counts = new Map<number, number>();
  for (const time of times) counts.set(Math.floor(time / 1000), (counts.get(Math.floor(time / 1000)) ?? 0) + 1);
  return Math.max(...counts.values());
};

const calls = fc.record({
  inMs: fc.integer({ min: 0, max: 2 * RETURN_MS_MAX }),
  places: fc.integer({ min: 1, max: 20_000 }),
  periodMs: fc.integer({ min: 0, max: 3 * RETURN_MS_MAX }),
});

describe('when agents are to come back', () => {
  test('they never come at more than the rate, whatever they are called for', () => {
    fc.assert(
      fc.property(fc.option(calls, { nil: undefined }), fc.integer({ min: 1, max: 10_000 }), (call, agents) => {
        const times = timesOf(agents, call);
        expect(returnFor(call, { agents: 0, nowMs: NOW_MS })).toBeGreaterThanOrEqual(500);
        // 500 a second on average, and what chance adds.
        expect(perSecondMax(times)).toBeLessThanOrEqual(650);
        expect(Math.min(...times)).toBeGreaterThanOrEqual(500);
        expect(Math.max(...times)).toBeLessThanOrEqual(RETURN_MS_MAX);
      }),
      { numRuns: 60 },
    );
  });

  test('a small fleet comes as one, just before it is called', () => {
    const times = timesOf(20, { inMs: 40_000, places: 20, periodMs: 60_000 });
    expect(Math.min(...times)).toBeGreaterThanOrEqual(40_000 - 40);
    expect(Math.max(...times)).toBeLessThanOrEqual(40_000);
  });

  test('of a large fleet as many come for each call as it has places, and half as many more', () => {
    const times = timesOf(10_000, { inMs: 30_000, places: 1_000, periodMs: 60_000 });
    const turns = Array.from({ length: 7 }, (_, turn) => {
      const callMs = 30_000 + 60_000 * turn;
      return times.filter((time) => time > callMs - 3_001 && time <= callMs).length;
    });
    expect(turns.reduce((sum, count) => sum + count, 0)).toBe(10_000);
    for (const count of turns) expect(count).toBeGreaterThan(1_250);
    for (const count of turns) expect(count).toBeLessThan(1_650);
  });

  test('those who wait meet at one instant, whenever they were sent away before it and however large they take the fleet to be', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 900 }),
        fc.integer({ min: 1, max: 900 }),
        fc.nat(60_000),
        (one, other, laterMs) => {
          const at = (agents: number, nowMs: number): number =>
            nowMs + returnFor(undefined, { agents, nowMs, uniform: () => 0.999 });
          const [first, second] = [at(one, NOW_MS), at(other, NOW_MS + laterMs)];
          // The rendezvous is every 20 s, and a fleet of 900 needs 1.8 s to come.
          const meet = (time: number): number => Math.abs(time - 20_000 * Math.round(time / 20_000));
          expect(meet(first)).toBeLessThanOrEqual(2_400);
          expect(meet(second)).toBeLessThanOrEqual(2_400);
        },
      ),
    );
  });

  test('a fleet that waits and is large meets more seldom, at an instant at which a small one meets too', () => {
    const large = NOW_MS + returnFor(undefined, { agents: 4_000, nowMs: NOW_MS, uniform: () => 1 });
    expect(Math.abs(large - 80_000 * Math.round(large / 80_000))).toBeLessThanOrEqual(1);
  });
});

test('no second has more returns than the rate, and a full one hands on to the next', () => {
  const calendar = new ReturnCalendar();
  const times = Array.from({ length: 1_200 }, () => calendar.put(2_500, 10_000));
  expect([0, 1, 2].map((i) => times.filter((time) => time === 2_500 + 1000 * i).length)).toEqual([500, 500, 200]);
  // What is over has no place any more.
  expect(calendar.put(500, 60_000)).toBe(500);
});

describe('when a task calls', () => {
  const policy: RoundPolicy = {
    cohortMin: 2,
    cohortMax: 3,
    inviteMax: 4,
    collectMs: 60_000,
    pauseMs: 5_000,
    gatherMs: 100,
    graceMs: 50,
    roundsMax: 0,
    separation: 0,
    seed: 1,
  };
  const idle: Idle = { phase: 'Idle', round: 1, published: 1, version: 2, startAtMs: 10_000 };
  const collecting: Collecting = {
    phase: 'Collecting',
    round: 2,
    published: 1,
    version: 2,
    cohort: [],
    accepted: [],
    away: {},
    deadlineMs: 70_000,
  };

  test('between rounds it is when the next one may begin', () => {
    expect(callOf(idle, policy, { agentId: 'a', nowMs: 4_000, roundMs: 20_000 })).toEqual({
      inMs: 6_000,
      places: 4,
      periodMs: 25_000,
    });
    expect(callOf(idle, policy, { agentId: 'a', nowMs: 11_000, roundMs: 20_000 }).inMs).toBe(0);
  });

  test('in a round it is after the time that rounds take, and the pause', () => {
    expect(callOf(collecting, policy, { agentId: 'a', nowMs: 10_000, roundMs: 20_000 }).inMs).toBe(25_000);
    expect(callOf(collecting, policy, { agentId: 'a', nowMs: 22_000, roundMs: 20_000 }).inMs).toBe(13_000);
  });

  test('a round that takes longer than others did is given a quarter of their time again, up to its deadline', () => {
    expect(callOf(collecting, policy, { agentId: 'a', nowMs: 40_000, roundMs: 20_000 }).inMs).toBe(10_000);
    expect(callOf(collecting, policy, { agentId: 'a', nowMs: 68_000, roundMs: 20_000 }).inMs).toBe(7_000);
    expect(callOf(collecting, policy, { agentId: 'a', nowMs: 90_000, roundMs: 20_000 }).inMs).toBe(5_000);
  });

  test('a first round is expected to take as long again as it has', () => {
    expect(callOf(collecting, policy, { agentId: 'a', nowMs: 13_000 }).inMs).toBe(8_000);
    expect(callOf(collecting, policy, { agentId: 'a', nowMs: 50_000 }).inMs).toBe(25_000);
  });

  test('how long rounds take follows the newest ones', () => {
    expect([100, 200, 200].reduce<number | undefined>(typicalMs, undefined)).toBe(151);
  });
});

describe('fleets that leave between rounds', { timeout: 120_000 }, () => {
  test('a small one meets: every agent is needed, and none stays', async () => {
    const fleet = { agents: 6, cohort: { min: 6, max: 6 }, rounds: 5, trainMs: [20_000, 40_000] } as const;
    const figures = await playFleet({ ...fleet, comeWithinMs: 60_000, idle: 'told', endMs: 3_600_000 });
    expect(figures).toMatchObject({ published: 5, abandoned: 0 });
    // A round takes as long as its slowest, 40 s; without a time to come back to they would miss each other for minutes.
    expect(figures.seconds).toBeLessThan(60 + 5 * 80);
    expect(figures.connectedShare).toBeLessThan(0.9);
  });

  test('a large one comes as it is needed, and never all at once', async () => {
    const fleet = { agents: 2_000, cohort: { min: 80, max: 100, overSelection: 1.3 }, rounds: 8 };
    const figures = await playFleet({
      ...fleet,
      trainMs: [10_000, 40_000],
      comeWithinMs: 10_000,
      idle: 'told',
      endMs: 3_600_000,
    });
    expect(figures).toMatchObject({ published: 8, abandoned: 0 });
    // The first who come are told a time before anybody knows how many will.
    expect(figures.arrivalsPerSecondMax).toBeLessThanOrEqual(500);
    expect(figures.connectedShare).toBeLessThan(0.5);
    expect(figures.arrivalsPerUpdate).toBeLessThan(8);
  });
});
