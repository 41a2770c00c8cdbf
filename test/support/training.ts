import type { GridSpec } from '@commonweight/core';
import { gridFromWire } from '@commonweight/proto';
import { expect } from 'vitest';
import type { TestAgent } from './test-agent.ts';

export {
  compressed,
  config,
  LENGTH,
  offerOf,
  sealed,
  sha256,
  startTraining,
  TestAgent,
  TOP_K,
  updateOf,
} from './test-agent.ts';

/** The grid of a round, once all agents are invited to it. */
export async function invited(agents: readonly TestAgent[], round = 1): Promise<GridSpec> {
  await expect.poll(() => agents.every((agent) => agent.assignments().length === round)).toBe(true);
  return gridFromWire(agents[0]!.assignments()[0]!.grid!);
}
