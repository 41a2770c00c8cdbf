import { afterEach, describe, expect, test } from 'vitest';
import { closeCoordinators, GOAL, tenAgents, trained, weightsOf } from '../../../test/support/ten-agents.ts';
import { invited } from '../../../test/support/training.ts';

afterEach(closeCoordinators);

/** The largest distance of a weight to where the honest agents together would have it, after some rounds. */
async function trainUnderAttack(strategy: object, hostile: readonly string[]): Promise<number> {
  const { service, agents, grid } = await tenAgents({ strategy });
  for (let round = 1; round <= 4; round++) {
    await invited(agents, round);
    for (const agent of agents) {
      const update = trained(agent, grid, { round, hostile: hostile.includes(agent.id) });
      expect(await agent.submit(update)).toMatchObject({ accepted: true });
    }
  }
  const weights = await weightsOf(service);
  return weights.reduce((worst, weight, i) => Math.max(worst, Math.abs(weight - GOAL[i]!)), 0);
}

describe('two of ten agents turn their updates around and make them ten times as long', () => {
  test('the plain mean learns without them, and is ruined with them', async () => {
    expect(await trainUnderAttack({ name: 'fedAvg' }, [])).toBeLessThan(0.15);
    expect(await trainUnderAttack({ name: 'fedAvg' }, ['c', 'h'])).toBeGreaterThan(1);
  });

  test.each([
    { name: 'median' },
    { name: 'trimmedMean', trim: 0.2 },
    { name: 'krum', attackers: 2 },
    { name: 'multiKrum', attackers: 2 },
    { name: 'bulyan', attackers: 1 },
    { name: 'geometricMedian' },
    { name: 'centredClipping' },
    { name: 'normBound' },
  ])('$name learns all the same', async (strategy) => {
    // Bulyan needs 4f + 3 updates: of ten, one may be hostile.
    const hostile = strategy.name === 'bulyan' ? ['c'] : ['c', 'h'];
    expect(await trainUnderAttack(strategy, hostile)).toBeLessThan(0.25);
  });
});
