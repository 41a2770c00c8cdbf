import { seeded, spreadOf, type RandomStream } from '@commonweight/core';
import { create } from '@bufbuild/protobuf';
import { RolloutGuardSchema } from '@commonweight/proto';
import { expect, test } from 'vitest';
import { GUARD, parseGuard, verdictOn, verdictOver, type Evidence } from './guard.ts';

/** What one client says in a window. */
interface Said {
  predictions?: number;
  failing?: number;
  p95Ms?: number;
  reverted?: boolean;
  accuracy?: number;
}

function evidence(...clients: Said[]): Evidence {
  const accuracies = clients.flatMap(({ accuracy }) => (accuracy === undefined ? [] : [accuracy]));
  return {
    clients: clients.length,
    predictions: clients.reduce((sum, { predictions = 100 }) => sum + predictions, 0),
    failing: spreadOf(clients.map(({ failing = 0 }) => failing)),
    latency: spreadOf(clients.map(({ p95Ms = 10 }) => Math.log2(p95Ms))),
    reverting: spreadOf(clients.map(({ reverted = false }) => Number(reverted))),
    accuracy: spreadOf(accuracies),
  };
}

const many = (count: number, said: Said = {}): Said[] => Array.from({ length: count }, () => said);
const calm = evidence(...many(20));

test('nothing is said before enough clients and predictions of both versions are reported', () => {
  expect(verdictOn(GUARD, calm, evidence(...many(4)))).toEqual({
    is: 'unknown',
    why: '4 of 5 clients and 400 of 100 predictions of the new version are reported',
  });
  expect(verdictOn(GUARD, evidence(...many(5, { predictions: 10 })), calm).why).toBe(
    '5 of 5 clients and 50 of 100 predictions of the version before are reported',
  );
  expect(verdictOn(GUARD, calm, evidence(...many(5))).is).toBe('good');
  expect(verdictOn({ ...GUARD, off: true }, calm, evidence(...many(50, { failing: 1 }))).is).toBe('unknown');
});

test('a version whose predictions fail more often is bad, and one that fails as the one before is not', () => {
  const failing = many(20, { failing: 0.05 });
  expect(verdictOn(GUARD, calm, evidence(...failing))).toEqual({
    is: 'bad',
    why: '5.0 % of its predictions fail, of the version before 0.0 %',
  });
  expect(verdictOn(GUARD, evidence(...failing), evidence(...failing)).is).toBe('good');
  expect(verdictOn(GUARD, calm, evidence(...many(20, { failing: 0.009 }))).is).toBe('good');
});

test('a version that is slower than allowed is bad, but never while it is fast enough', () => {
  const before = evidence(...many(20, { p95Ms: 40 }));
  expect(verdictOn(GUARD, before, evidence(...many(20, { p95Ms: 90 })))).toEqual({
    is: 'bad',
    why: 'its predictions take 90.0 ms (p95), those of the version before 40.0 ms',
  });
  expect(verdictOn(GUARD, before, evidence(...many(20, { p95Ms: 79 }))).is).toBe('good');
  expect(verdictOn(GUARD, evidence(...many(20, { p95Ms: 1 })), evidence(...many(20, { p95Ms: 49 }))).is).toBe('good');
});

test('a version that clients take back or refuse is bad, also where nobody could predict with it', () => {
  const refused = evidence(...many(8, { predictions: 0, reverted: true }));
  expect(verdictOn(GUARD, calm, refused)).toEqual({
    is: 'bad',
    why: '100.0 % of its clients took it back or refused it, of the version before 0.0 %',
  });
  expect(verdictOn(GUARD, evidence(), refused).is).toBe('bad');
});

test('a version that is wrong more often by feedback is bad; without feedback nothing is said of it', () => {
  const before = evidence(...many(10, { accuracy: 0.95 }));
  expect(verdictOn(GUARD, before, evidence(...many(10, { accuracy: 0.9 })))).toEqual({
    is: 'bad',
    why: '90.0 % of its answers are right by feedback, of the version before 95.0 %',
  });
  expect(verdictOn(GUARD, before, evidence(...many(10, { accuracy: 0.94 }))).is).toBe('good');
  expect(verdictOn(GUARD, before, evidence(...many(10), ...many(4, { accuracy: 0 }))).is).toBe('good');
});

test('one client of many, whatever it says, stops nothing', () => {
  const liar: Said = { failing: 1, p95Ms: 1e9, reverted: true, accuracy: 0, predictions: 1e12 };
  for (const others of [9, 20, 99]) {
    const before = evidence(...many(others, { accuracy: 0.9 }));
    expect(verdictOn(GUARD, before, evidence(...many(others, { accuracy: 0.9 }), liar)).is).toBe('good');
  }
  // And a rollout that goes badly is not saved by one that says all is well.
  expect(verdictOn(GUARD, calm, evidence(...many(20, { failing: 0.5 }), {})).is).toBe('bad');
});

/** Clients that differ as real ones do: some fail often on both versions, and devices are up to ten times as slow as others. */
function fleet(random: RandomStream, clients: number, { failing = 0, slower = 1 } = {}): Evidence {
  return evidence(
    ...Array.from({ length: clients }, (): Said => {
      const own = random.uniform() < 0.1 ? 0.2 * random.uniform() : 0.005 * random.uniform();
      const rate = Math.min(1, own + failing);
      let failed = 0;
      for (let i = 0; i < 100; i += 1) failed += Number(random.uniform() < rate);
      return { failing: failed / 100, p95Ms: 60 * 10 ** random.uniform() * slower };
    }),
  );
}

test('of a thousand rollouts of a version that is no worse, at most a few are stopped; of a worse one, nearly all', () => {
  let [stopped, missed] = [0, 0];
  for (let i = 0; i < 1000; i += 1) {
    const random = seeded(`guard ${i}`);
    const before = fleet(random, 200);
    stopped += Number(verdictOn(GUARD, before, fleet(random, 30)).is === 'bad');
    missed += Number(verdictOn(GUARD, before, fleet(random, 30, { failing: 0.1 })).is !== 'bad');
  }
  // One in 700 of a normal distribution, and no fleet is one.
  expect(stopped).toBeLessThanOrEqual(10);
  expect(missed).toBeLessThanOrEqual(10);
});

test('a policy is what was asked for, and defaults; what makes no sense is refused by name', () => {
  expect(parseGuard(undefined)).toEqual(GUARD);
  expect(parseGuard(create(RolloutGuardSchema, { errorPointsMax: 0, clientsMin: 50 }))).toEqual({
    ...GUARD,
    errorPointsMax: 0,
    clientsMin: 50,
  });
  expect(parseGuard(create(RolloutGuardSchema, { off: true }))).toEqual({ ...GUARD, off: true });
  for (const wrong of [{ latencyFactorMax: 0.5 }, { errorPointsMax: -1 }, { revertPointsMax: Number.NaN }]) {
    expect(() => parseGuard(create(RolloutGuardSchema, wrong))).toThrow(
      new RegExp(`guard ${Object.keys(wrong)[0]} is`),
    );
  }
});

test('over windows the last one alone may be bad, and what a client says again and again is no news', () => {
  const windows = (...all: Said[][]): Evidence[] => all.map((said) => evidence(...said));
  const well = windows(many(20), many(20), many(20));
  // All was well for long, and now it is not.
  expect(verdictOver(GUARD, well, windows(many(20), many(20), many(20, { failing: 0.5 }))).is).toBe('bad');
  // It was bad, and few have spoken since.
  expect(verdictOver(GUARD, well, windows(many(20, { failing: 0.5 }), many(20, { failing: 0.5 }), many(1))).is).toBe(
    'bad',
  );
  // Six times the same five clients are five clients.
  const few = windows(many(4), many(4), many(4), many(4), many(4), many(4));
  expect(verdictOver(GUARD, few, few)).toMatchObject({
    is: 'unknown',
    why: expect.stringMatching(/^4 of 5 clients/) as string,
  });
  // Two of forty that fail in each of six windows are two of forty, not twelve.
  const grudge = Array.from({ length: 6 }, () => [...many(38), ...many(2, { failing: 1 })]);
  expect(verdictOver(GUARD, windows(...grudge.map(() => many(40))), windows(...grudge)).is).toBe('good');
});
