// The order of arrival and who folded what never show in what is published: for every strategy, with one coordinator and with several, with
// and without a relay.
import {
  encodings,
  localMethodOf,
  pack,
  parsePlan,
  seeded,
  strategies,
  strategyFrom,
  type EncodingName,
  type GridSpec,
} from '@commonweight/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { relayBefore } from '../../../test/support/relays.ts';
import { essenceOf, newestOf, Replicas, spread } from '../../../test/support/replicas.ts';
import { config, LENGTH, updateOf, type TestAgent } from '../../../test/support/training.ts';
import { serveGrpc } from '../edges/grpc/server.ts';
import type { AgentGate, CoordinatorService } from '../service.ts';

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
function payloadOf(name: string, id: string, grid: GridSpec, encoding: EncodingName): Uint8Array {
  const random = seeded(`${name} ${id}`);
  const { shape } = localMethodOf(strategyFrom({ name, ...OPTIONS[name] }).instruct(parsePlan(config.plan)));
  const vectors = Array.from({ length: shape.vectors }, () =>
    Float32Array.from({ length: LENGTH }, () => random.normal() * 0.1),
  );
  const numbers = shape.numbersMax.map((max) => max * (0.25 + 0.5 * random.uniform()));
  return encodings[encoding].encode(pack({ vectors, numbers }, shape, grid), grid, random);
}

async function deliver(
  name: string,
  agents: readonly TestAgent[],
  grid: GridSpec,
  encoding: EncodingName,
): Promise<void> {
  for (const agent of agents) {
    const { invitation } = agent.assignments()[0]!;
    const update = updateOf(
      agent.id,
      grid,
      { payload: payloadOf(name, agent.id, grid, encoding), invitation, weight: 7n },
      {
        encoding,
        topK: 1,
      },
    );
    expect(await agent.submit(update)).toMatchObject({ accepted: true });
  }
}

const NAMES = Object.keys(strategies).filter((name) => name !== ONE_BY_ONE);
const isJudged = (name: string): boolean => strategyFrom({ name, ...OPTIONS[name] }).robust?.needsRoot === true;

/** What the agents of a task with this strategy make together, each at one of the gates, in an order that is drawn from the seed. */
async function publish(
  name: string,
  services: readonly CoordinatorService[],
  { seed, encoding, gates }: { seed: string; encoding: EncodingName; gates: readonly AgentGate[] },
): Promise<string> {
  const changes = {
    strategy: { name, ...OPTIONS[name] },
    encoding,
    ...(isJudged(name) ? { evaluators: ['judge'] } : {}),
  };
  const { agents, grid } = await spread(services, changes, IDS, gates);
  const random = seeded(seed);
  const at = new Map(agents.map((agent) => [agent, random.uniform()]));
  await deliver(
    name,
    agents.toSorted((a, b) => at.get(a)! - at.get(b)!),
    grid,
    encoding,
  );
  await expect.poll(async () => (await newestOf(services.at(-1)!)).version, { timeout: 60_000 }).toBe(2n);
  return essenceOf(services[0]!);
}

test.each(NAMES)('%s: the same bytes in any order, by one, three and five coordinators', async (name) => {
  const published = new Set<string>();
  for (const count of [1, 1, 3, 5]) {
    const { services, close } = await replicas.open(count);
    const seed = `${count} after ${published.size}`;
    published.add(await publish(name, services, { seed, encoding: 'mxint8', gates: services }));
    await close();
  }
  expect(published.size).toBe(1);
});

/** Strategies that need no more than a sum, so that a relay folds. */
const isFolded = (name: string): boolean => {
  const { robust, asynchronous } = strategyFrom({ name, ...OPTIONS[name] });
  return robust === undefined && asynchronous === undefined;
};

// In an encoding of which two updates are larger than their sum.
test.each(NAMES)(
  '%s: the same bytes with and without a relay, before one coordinator and before three',
  async (name) => {
    const published = new Set<string>();
    for (const [count, relays] of [
      [1, 0],
      [1, 1],
      [3, 2],
    ] as const) {
      const { services, close } = await replicas.open(count);
      const edges = await Promise.all(services.map((service) => serveGrpc(service, { host: '127.0.0.1', port: 0 })));
      const before = await Promise.all(
        Array.from({ length: relays }, (_, i) => relayBefore(edges.at(-1 - i)!.port, { waitMs: 500 })),
      );
      // Some agents come to a coordinator themselves.
      const gates = relays === 2 ? [...before.map(({ gate }) => gate), services[0]!] : before.map(({ gate }) => gate);
      const options = {
        seed: `${count} ${relays}`,
        encoding: 'float32',
        gates: relays === 0 ? services : gates,
      } as const;
      published.add(await publish(name, services, options));
      for (const relay of before) {
        await relay.close();
        const { parts, single } = relay.figures();
        expect(isFolded(name) ? parts : single).toBeGreaterThan(0);
        if (isFolded(name) && relays === 1) expect(single).toBe(0);
      }
      await Promise.all(edges.map((edge) => edge.close()));
      await close();
    }
    expect(published.size).toBe(1);
  },
);
