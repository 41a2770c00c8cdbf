import { expect, test, vi } from 'vitest';
import type * as Files from '../../client-sdk/src/platform/storage.ts';
import { bitFlips } from './bit-flips.ts';

const planted = vi.hoisted(() => ({ isBlind: false }));
vi.mock('../../client-sdk/src/platform/storage.ts', async (original) => {
  const production = await original<typeof Files>();
  const readText: typeof Files.readText = async (storage, path) => {
    const text = await production.readText(storage, path);
    return planted.isBlind ? text?.replace(/\ncrc32 .*\n$/, '') : text;
  };
  return { ...production, readText };
});

const run = (): ReturnType<typeof bitFlips.run> => bitFlips.run({ seed: 1, minutes: 0, log: () => {} });

test('a flipped bit in any kind of file is noticed before what was read is used, or changes nothing', async () => {
  const { figures, violations } = await run();
  expect(violations).toEqual([]);
  expect(figures['flips_detected']).toBeGreaterThan(0.7 * figures['flips']!);
});

test('files whose checksums nobody looks at are seen', async () => {
  planted.isBlind = true;
  try {
    const { violations } = await run();
    expect(violations).toContainEqual(expect.stringContaining('of the trusted key was flipped'));
  } finally {
    planted.isBlind = false;
  }
});
