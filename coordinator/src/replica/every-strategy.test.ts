// The order of arrival and who folded what never show in what is published: for every strategy, with one coordinator and with several.
import {
  encodings,
  localMethodOf,
  pack,
  parsePlan,
  seeded,
  strategies,
  strategyFrom,
  type GridSpec,
} from '@commonweight/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { essenceOf, newestOf, Replicas, spread } from '../../../test/support/replicas.ts';
import { config, LENGTH, updateOf, type TestAgent } from '../../../test/support/training.ts';

let replicas: Replicas;
beforeAll(async () => {
  replicas = await Replicas.start();
});
afterAll(() => replicas.close());

/** As many as Bulyan needs for one attacker. */
const IDS = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
const OPTIONS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  scaffold: { agents: IDS.length },
  fedDyn: { agents: IDS.length },
  fedBuff: { bufferSize: IDS.length },
};
/** Each of its updates is a version of its own: the order is what it is about. */
const ONE_BY_ONE = 'fedAsync';

/** What an agent sends, with the vectors and numbers that the strategy wants, and the same in every run. */
function payloadOf(name: string, id: string, grid: GridSpec): Uint8Array {
  const random = seeded(`${name} ${id}`);
  const { shape } = localMethodOf(strategyFrom({ name, ...OPTIONS[name] }).instruct(parsePlan(config.plan)));
  const vectors = Array.from({ length: shape.vectors }, () =>
    Float32Array.from({ length: LENGTH }, () => random.normal() * 0.1),
  );
  const numbers = shape.numbersMax.map((max) => max * (0.25 + 0.5 * random.uniform()));
  return encodings.mxint8.encode(pack({ vectors, numbers }, shape, grid), grid, random);
}

async function deliver(name: string, agents: readonly TestAgent[], grid: GridSpec): Promise<void> {
  for (const agent of agents) {
    const { invitation } = agent.assignments()[0]!;
    const update = updateOf(agent.id, grid, { payload: payloadOf(name, agent.id, grid), invitation, weight: 7n });
    expect(await agent.submit(update)).toMatchObject({ accepted: true });
  }
}

test.each(Object.keys(strategies).filter((name) => name !== ONE_BY_ONE))(
  '%s: the same bytes in any order, by one, three and five coordinators',
  async (name) => {
    const published = new Set<string>();
    for (const count of [1, 1, 3, 5]) {
      const { services, close } = await replicas.open(count);
      const strategy = { name, ...OPTIONS[name] };
      const isJudged = strategyFrom(strategy).robust?.needsRoot === true;
      const { agents, grid } = await spread(
        services,
        { strategy, ...(isJudged ? { evaluators: ['judge'] } : {}) },
        IDS,
      );
      const random = seeded(`${count} after ${published.size}`);
      const at = new Map(agents.map((agent) => [agent, random.uniform()]));
      await deliver(
        name,
        agents.toSorted((a, b) => at.get(a)! - at.get(b)!),
        grid,
      );
      await expect.poll(async () => (await newestOf(services.at(-1)!)).version).toBe(2n);
      published.add(await essenceOf(services[0]!));
      await close();
    }
    expect(published.size).toBe(1);
  },
);
