import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { Backoff, sleep } from './backoff.ts';

test('the bound doubles from one second up to a minute', () => {
  const backoff = new Backoff({ random: () => 1, nowMs: () => 0 });
  const waits = Array.from({ length: 8 }, () => backoff.nextMs());
  expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
});

test('the wait is the drawn share of the bound', () => {
  const draws = [0, 0.5, 0.25];
  const backoff = new Backoff({ random: () => draws.shift() ?? 0, nowMs: () => 0 });
  expect([backoff.nextMs(), backoff.nextMs(), backoff.nextMs()]).toEqual([0, 1000, 1000]);
});

test('a link that held starts again from the base, one that flaps does not', () => {
  let nowMs = 0;
  const backoff = new Backoff({ random: () => 1, nowMs: () => nowMs, healthyMs: 5000 });
  expect([backoff.nextMs(), backoff.nextMs()]).toEqual([1000, 2000]);
  backoff.connected();
  nowMs = 100;
  expect(backoff.nextMs()).toBe(4000);
  backoff.connected();
  nowMs = 5100;
  expect(backoff.nextMs()).toBe(1000);
});

test('where nothing answers the bound stays at six seconds, and a refusal after that is spread over a minute', () => {
  const backoff = new Backoff({ random: () => 1, nowMs: () => 0 });
  const unreached = { unreached: true };
  expect(Array.from({ length: 6 }, () => backoff.nextMs(unreached))).toEqual([1000, 2000, 4000, 6000, 6000, 6000]);
  expect(backoff.nextMs()).toBe(60_000);
  expect(backoff.nextMs(unreached)).toBe(6000);
});

test('ten minutes after a network went away the next try is at most six seconds from its return', () => {
  const draws = fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), {
    minLength: 1,
    maxLength: 50,
  });
  const returns = fc.integer({ min: 600_000, max: 700_000 });
  fc.assert(
    fc.property(draws, returns, (drawn, returnMs) => {
      let [nowMs, at] = [0, 0];
      // Waits of nothing at all would try without end.
      const random = (): number => 0.01 + 0.99 * drawn[at++ % drawn.length]!;
      const backoff = new Backoff({ random, nowMs: () => nowMs });
      while (nowMs < returnMs) nowMs += backoff.nextMs({ unreached: true });
      expect(nowMs - returnMs).toBeLessThanOrEqual(6_000);
    }),
  );
});

test('a server that says when to come back is left alone until then, and not all come at that moment', () => {
  const backoff = new Backoff({ random: () => 0.5, nowMs: () => 0 });
  expect(backoff.nextMs({ retryAfterMs: 5_000 })).toBe(5_500);
  expect(backoff.nextMs({ retryAfterMs: 1e12 })).toBe(600_000 + 1_000);
});

const around = globalThis as { addEventListener?: unknown; removeEventListener?: unknown; document?: unknown };
afterEach(() => {
  for (const name of ['addEventListener', 'removeEventListener', 'document'] as const) delete around[name];
});

test('in a browser a wait for the network ends when the device is online or the page is looked at; one for a server that refused does not', async () => {
  const events = new EventTarget();
  around.addEventListener = events.addEventListener.bind(events);
  around.removeEventListener = events.removeEventListener.bind(events);
  const document = Object.assign(new EventTarget(), { visibilityState: 'hidden' });
  around.document = document;
  const slow = () => new Backoff({ random: () => 0.9, baseMs: 1, maxMs: 600_000, unreachedMaxMs: 600_000 });
  const grown = (): Backoff => {
    const backoff = slow();
    for (let i = 0; i < 30; i++) backoff.nextMs();
    return backoff;
  };
  const stop = new AbortController();
  let refused = 'waits';
  const refusal = grown()
    .wait({}, stop.signal)
    .then(() => (refused = 'over'));
  const online = grown().wait({ unreached: true });
  events.dispatchEvent(new Event('online'));
  await online;
  let hidden = 'waits';
  const seen = grown()
    .wait({ unreached: true })
    .then(() => (hidden = 'over'));
  document.dispatchEvent(new Event('visibilitychange'));
  await sleep(20);
  expect([refused, hidden]).toEqual(['waits', 'waits']);
  document.visibilityState = 'visible';
  document.dispatchEvent(new Event('visibilitychange'));
  await seen;
  expect(refused).toBe('waits');
  stop.abort();
  await refusal;
});

test('sleep ends early when its signal aborts', async () => {
  const stop = new AbortController();
  const slept = sleep(60_000, stop.signal);
  stop.abort();
  await slept;
  await sleep(60_000, stop.signal);
});
