import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ServiceError } from '../service.ts';
import { advanced, held, promoted, rolledBack, type ChannelState, type Promotion } from './channel.ts';
import { GUARD, type Verdict } from './guard.ts';

const of = { model: 'digits', channel: 'stable' };
const at = (nowMs: number) => ({ nowMs, lifetimeMs: 1_000_000, seed: `seed ${nowMs}` });
const everybody = (version: number): Promotion => ({
  version,
  cohorts: [],
  stages: [],
  everyMs: 0,
  guard: GUARD,
  needsReports: false,
});
const unknown: Verdict = { is: 'unknown', why: '' };
const good: Verdict = { is: 'good', why: '' };
const bad: Verdict = { is: 'bad', why: '9 % fail' };
const five = (): ChannelState => promoted(undefined, of, everybody(5), at(0));
const share = (version: number, percent: number): Promotion => ({ ...everybody(version), percent });
const staged = (version: number): Promotion => ({ ...everybody(version), stages: [1, 10, 100], everyMs: 1000 });

test('a first version is for everybody', () => {
  expect(five()).toMatchObject({ ...of, revision: 1, version: 5, before: 0, createdMs: 0, expiresMs: 1_000_000 });
  expect(() => promoted(undefined, of, share(5, 10), at(0))).toThrow(
    /has no version yet: promote one to everybody first/,
  );
});

test('a version for a share, a higher share, then everybody; what was there before is remembered', () => {
  const ten = promoted(five(), of, share(7, 10), at(1));
  expect(ten).toMatchObject({ revision: 2, version: 5, rollout: { version: 7, percent: 10, seed: 'seed 1' } });
  const half = promoted(ten, of, share(7, 50), at(2));
  expect(half.rollout).toMatchObject({ version: 7, percent: 50, seed: 'seed 1' });
  const all = promoted(half, of, everybody(7), at(3));
  expect(all).toMatchObject({ revision: 4, version: 7, before: 5 });
  expect(all.rollout).toBeUndefined();
  expect(all.changes.map(({ what }) => what)).toEqual([
    'version 5',
    'version 7 to 10 %',
    'version 7 to 50 %',
    'version 7 to everybody',
  ]);
});

test('who is raised within a cohort stays within it, until everybody is meant', () => {
  const eu = [{ key: 'region', value: 'eu' }];
  const cohort = promoted(five(), of, { ...share(7, 10), cohorts: eu }, at(1));
  expect(cohort.changes.at(-1)?.what).toBe('version 7 to 10 % of region=eu');
  expect(promoted(cohort, of, share(7, 100), at(2)).rollout).toMatchObject({ percent: 100, cohorts: eu });
  expect(promoted(cohort, of, everybody(7), at(2)).rollout).toBeUndefined();
  const whole = promoted(five(), of, { ...everybody(7), cohorts: eu }, at(1));
  expect(whole.rollout).toMatchObject({ percent: 100, cohorts: eu });
});

test('stages follow one another, each after its time, and the last is everybody', () => {
  let state = promoted(five(), of, staged(7), at(0));
  expect(state.rollout).toMatchObject({ percent: 1, stages: [10, 100] });
  expect(advanced(state, unknown, at(999))).toBeUndefined();
  state = advanced(state, unknown, at(1000))!;
  expect(state.rollout).toMatchObject({ percent: 10, stages: [100] });
  // However late somebody looks, each stage has its time.
  state = advanced(state, unknown, at(9000))!;
  expect([state.version, state.rollout]).toEqual([7, undefined]);
});

test('where reports are needed a stage waits until they are good', () => {
  const state = promoted(five(), of, { ...staged(7), needsReports: true }, at(0));
  expect(advanced(state, unknown, at(5000))).toBeUndefined();
  expect(advanced(state, good, at(5000))?.rollout?.percent).toBe(10);
});

test('a rollout that goes badly is taken back, also while the channel is held', () => {
  const state = promoted(five(), of, share(7, 10), at(0));
  for (const each of [state, held(state, 'wait', at(1))]) {
    const back = advanced(each, bad, at(2))!;
    expect([back.version, back.rollout, back.revision]).toEqual([5, undefined, each.revision + 1]);
    expect(back.changes.at(-1)?.what).toBe('version 7 taken back: 9 % fail');
  }
});

test('a channel that is held raises no stage and takes no promotion; released, its stage begins anew', () => {
  const state = held(promoted(five(), of, staged(7), at(0)), 'holidays', at(10));
  expect(advanced(state, good, at(5000))).toBeUndefined();
  expect(() => promoted(state, of, share(7, 50), at(20))).toThrow(
    'channel stable of digits is held (holidays): release it first',
  );
  const released = held(state, undefined, at(5000));
  expect(advanced(released, unknown, at(5999))).toBeUndefined();
  expect(advanced(released, unknown, at(6000))?.rollout?.percent).toBe(10);
  expect(() => held(released, undefined, at(6000))).toThrow('is not held');
  expect(() => held(released, '', at(6000))).toThrow('for a reason');
});

test('a rollback ends a rollout, or goes back to what was there before, or to what is named', () => {
  const rollout = promoted(five(), of, share(7, 10), at(1));
  expect(rolledBack(rollout, undefined, at(2))).toMatchObject({ version: 5, revision: 3 });
  const seven = promoted(five(), of, everybody(7), at(1));
  const back = rolledBack(seven, undefined, at(2));
  expect(back).toMatchObject({ version: 5, before: 0, revision: 3 });
  expect(() => rolledBack(back, undefined, at(3))).toThrow(/it is not known what .* had before version 5/);
  expect(rolledBack(back, 3, at(3))).toMatchObject({ version: 3 });
  expect(() => rolledBack(back, 5, at(3))).toThrow('has version 5 already');
});

test('half of its time over, a record is signed anew and says the same', () => {
  const state = five();
  expect(advanced(state, unknown, at(499_999))).toBeUndefined();
  const again = advanced(state, unknown, at(500_000))!;
  expect(again).toEqual({ ...state, revision: 2, createdMs: 500_000, expiresMs: 1_500_000 });
});

test.each<[string, () => unknown, RegExp]>([
  [
    'latest',
    () => promoted(undefined, { ...of, channel: 'latest' }, everybody(5), at(0)),
    /latest is always the newest version/,
  ],
  [
    'a strange name',
    () => promoted(undefined, { ...of, channel: 'a b' }, everybody(5), at(0)),
    /letters, digits, - and _ only/,
  ],
  ['the version that is there', () => promoted(five(), of, everybody(5), at(0)), /has version 5 already/],
  ['0 %', () => promoted(five(), of, share(7, 0), at(0)), /above 0, and up to 100/],
  [
    'stages that fall',
    () => promoted(five(), of, { ...staged(7), stages: [50, 10, 100] }, at(0)),
    /percentages that rise to 100/,
  ],
  [
    'stages that end early',
    () => promoted(five(), of, { ...staged(7), stages: [1, 10] }, at(0)),
    /percentages that rise to 100/,
  ],
  ['stages without time', () => promoted(five(), of, { ...staged(7), everyMs: 0 }, at(0)), /need a time for each/],
  [
    'a percentage and stages',
    () => promoted(five(), of, { ...staged(7), percent: 5 }, at(0)),
    /one percentage, or stages/,
  ],
  [
    'a strange cohort',
    () => promoted(five(), of, { ...everybody(7), cohorts: [{ key: 'a', value: ' ' }] }, at(0)),
    /a cohort is key=value/,
  ],
  [
    'another version meanwhile',
    () => promoted(promoted(five(), of, share(7, 10), at(0)), of, share(8, 10), at(1)),
    /version 7 is on its way to 10 % of channel stable of digits/,
  ],
])('%s is refused by what is wrong', (_, work, message) => {
  expect(work).toThrow(message);
  expect(work).toThrow(ServiceError);
});

test('whatever is done, each state has the next revision, holds from then on, and names a version', () => {
  const deed = fc.record({
    kind: fc.constantFrom('promote', 'hold', 'release', 'roll back', 'look'),
    version: fc.integer({ min: 1, max: 5 }),
    percent: fc.option(fc.integer({ min: 1, max: 100 }), { nil: undefined }),
    afterMs: fc.integer({ min: 0, max: 600_000 }),
    verdict: fc.constantFrom(unknown, good, bad),
  });
  fc.assert(
    fc.property(fc.array(deed, { maxLength: 30 }), (deeds) => {
      let [state, nowMs] = [five(), 0];
      for (const { kind, version, percent, afterMs, verdict } of deeds) {
        nowMs += afterMs;
        const before = state;
        try {
          if (kind === 'promote')
            state = promoted(
              state,
              of,
              percent === undefined ? everybody(version) : share(version, percent),
              at(nowMs),
            );
          else if (kind === 'hold') state = held(state, 'why', at(nowMs));
          else if (kind === 'release') state = held(state, undefined, at(nowMs));
          else if (kind === 'roll back')
            state = rolledBack(state, percent === undefined ? undefined : version, at(nowMs));
          else state = advanced(state, verdict, at(nowMs)) ?? state;
        } catch (error) {
          if (!(error instanceof ServiceError)) throw error;
        }
        if (state === before) continue;
        expect(state.revision).toBe(before.revision + 1);
        expect([state.createdMs, state.expiresMs]).toEqual([nowMs, nowMs + 1_000_000]);
        expect(state.version).toBeGreaterThan(0);
        expect(state.rollout?.version).not.toBe(state.version);
        expect(state.changes.length).toBeLessThanOrEqual(32);
      }
    }),
  );
});
