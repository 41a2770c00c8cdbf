import { expect, test, vi } from 'vitest';
import type * as Work from '../../coordinator/src/driver/task-work.ts';
import { hostileUpdates } from './hostile-updates.ts';

const planted = vi.hoisted(() => ({ fault: '' }));
vi.mock('../../coordinator/src/driver/task-work.ts', async (original) => {
  const production = await original<typeof Work>();
  const refusalOfBytes: typeof Work.refusalOfBytes = (header, payload) =>
    planted.fault === 'takes damaged bytes' ? undefined : production.refusalOfBytes(header, payload);
  const refusalOf: typeof Work.refusalOf = (header, round) => {
    const refusal = production.refusalOf(header, round);
    return refusal === 'weight-out-of-range' && planted.fault === 'takes any weight' ? undefined : refusal;
  };
  return { ...production, refusalOf, refusalOfBytes };
});

const run = (): ReturnType<typeof hostileUpdates.run> => hostileUpdates.run({ seed: 1, minutes: 0, log: () => {} });

test('hostile updates change no version and abandon no round', async () => {
  const { figures, violations } = await run();
  expect(violations).toEqual([]);
  expect(figures).toMatchObject({ hostile_updates: 500, hostile_counted: 0, aborted_rounds: 0 });
  expect(figures['rounds']).toBeGreaterThan(1);
});

test.each(['takes damaged bytes', 'takes any weight'])('a coordinator that %s is seen', async (fault) => {
  planted.fault = fault;
  try {
    const { figures, violations } = await run();
    expect(figures['hostile_counted']).toBeGreaterThan(0);
    expect(violations).toContainEqual(expect.stringMatching(/^I6: /));
  } finally {
    planted.fault = '';
  }
});
