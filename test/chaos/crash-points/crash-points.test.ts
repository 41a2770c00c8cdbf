import { expect, test } from 'vitest';
import { crashPoints } from './section.ts';

test('SIGKILL of a coordinator and of an agent at steps at which something becomes durable: nothing is lost and nothing counted twice', async () => {
  const { figures, violations } = await crashPoints.run({ seed: 1, minutes: 0, log: () => {} });
  expect(violations).toEqual([]);
  expect(figures).toMatchObject({ lost: 0, doubled: 0, forks: 0 });
  expect(figures['crash_runs']).toBeGreaterThan(5);
}, 600_000);
