import { rmSync } from 'node:fs';
import { zstdCompressSync } from 'node:zlib';
import { fromBinary } from '@bufbuild/protobuf';
import { startCoordinator, type CoordinatorService, type RunningCoordinator } from '@commonweight/coordinator';
import { TransportError } from '@commonweight/client-sdk';
import { encodings, logistic, seeded, writeModel, type GridSpec, type RandomStream } from '@commonweight/core';
import {
  agentSubject,
  Encoding,
  gridFromWire,
  ManifestSchema,
  MODEL_GET_SUBJECT,
  updateId,
  type UpdateHeader,
} from '@commonweight/proto';
import { connect } from '@nats-io/transport-node';
import { openAgentLink, type AgentLink } from '../../edge-agent/src/link/agent-link.ts';
import { freePort } from '../support/free-port.ts';
import { listening, natsServer, temporaryFolder, until } from '../support/processes.ts';
import { LENGTH, sealed, sha256, TestAgent, updateOf } from '../support/test-agent.ts';
import type { Section } from './section.ts';

const HONEST = ['a', 'b', 'c'];
/** In the cohort, and bad all the same. */
const TRAITORS = Array.from({ length: 6 }, (_, i) => `mallory-${i}`);
const KINDS = [
  'not invited',
  'NaN',
  'infinite',
  'too large a value',
  'too short',
  'too long',
  'no weight',
  'too much weight',
  'another digest',
  'a stolen id',
  'an old round',
  'a round to come',
  'another base',
  'another task',
  'another encoding',
  'a size of 2 TB',
  'from the middle',
  'half of it',
  'a damaged header',
  'a bomb',
  'a raw size of 2 TB',
  'compressed garbage',
] as const;
type Kind = (typeof KINDS)[number];

/** What is sent whatever the time, and at least where there is any. */
const UPDATES_MIN = 500;
const UPDATES_LONG = 100_000;
const AT_ONCE = 32;
/** So many come while a round is open and half of what is good is in. */
const UPDATES_PER_ROUND = 60;
/** Every so many updates some bytes that are no message at all. */
const GARBAGE_EVERY = 20;

interface Outcome {
  /** Digest of the weights by version. */
  weights: Map<number, string>;
  aborted: number;
  totalWeights: bigint[];
}

/** Updates that must not count, from agents that nobody invited and from agents of the cohort, over gRPC and NATS, while others train. */
export const hostileUpdates: Section = {
  name: 'hostile-updates',
  share: 6,
  lacks: async () => undefined,
  run: async ({ seed, minutes, log }) => {
    const wanted = minutes === 0 ? UPDATES_MIN : UPDATES_LONG;
    const endMs = Date.now() + 60_000 * Math.max(minutes, 0.2);
    const random = seeded(seed).fork('hostile');
    const violations: string[] = [];
    const figures = {
      hostile_updates: 0,
      hostile_garbage: 0,
      hostile_counted: 0,
      turned_away: 0,
      rounds: 0,
      aborted_rounds: 0,
    };
    const folder = temporaryFolder('chaos-hostile');
    const natsPort = await freePort();
    const nats = natsServer(natsPort);
    await listening(natsPort, nats);
    const natsUrl = `nats://127.0.0.1:${natsPort}`;
    const running = await startCoordinator({
      dataDir: folder,
      grpc: '127.0.0.1:0',
      http: '127.0.0.1:0',
      nats: natsUrl,
    });
    const links = linksTo(running, natsUrl);
    const garbage = await connect({ servers: natsUrl.slice('nats://'.length) });
    try {
      let sent = 0;
      let answered = 0;
      const training = train(running.service, TRAITORS, {
        storm: async (round) => {
          const enough = Math.min(wanted, answered + UPDATES_PER_ROUND);
          const isOver = (): boolean => answered >= enough || isAllSent();
          await until(`hostile updates in round ${round}`, 60_000, isOver);
        },
      });
      const isAllSent = (): boolean => sent >= wanted || (sent >= UPDATES_MIN && Date.now() >= endMs);
      const grid = await training.grid;
      const attack = async (): Promise<void> => {
        while (!isAllSent()) {
          const number = (sent += 1);
          const kind = KINDS[number % KINDS.length]!;
          const isTraitor = kind !== 'not invited' && random.uniform() < 0.2;
          const agentId = isTraitor ? TRAITORS[random.integer(TRAITORS.length)]! : `stranger-${random.integer(100)}`;
          const { header, payload, from } = badUpdate({ kind, agentId, random, grid, round: training.round() });
          const link = links.get(agentId);
          try {
            const answer = await link.submit(header, payload, from);
            if (answer.accepted && answer.receipt === undefined) {
              figures.hostile_counted += 1;
              violations.push(`I6: an update with ${kind} was taken from ${agentId}`);
            }
          } catch (error) {
            // Turned away in words, as it should be; a link that breaks is none.
            if (!(error instanceof TransportError)) throw error;
            figures.turned_away += 1;
          }
          figures.hostile_updates = answered += 1;
          if (number % GARBAGE_EVERY === 0) {
            const bytes = Uint8Array.from({ length: 1 + random.integer(64) }, () => random.integer(256));
            for (const verb of ['session', 'submit', 'status', 'download'] as const)
              garbage.publish(agentSubject(agentId, verb), bytes);
            garbage.publish(MODEL_GET_SUBJECT, bytes);
            figures.hostile_garbage += 5;
          }
          if (number % 20_000 === 0) log(`${number} hostile updates`);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, attack));
      const hostile = await training.end();
      const clean = await cleanRun(hostile.weights.size);
      figures.rounds = hostile.weights.size - 1;
      figures.aborted_rounds = hostile.aborted;
      if (hostile.aborted > 0) violations.push(`I6: ${hostile.aborted} rounds were abandoned`);
      for (const [version, digest] of hostile.weights) {
        if (clean.weights.get(version) !== digest) {
          violations.push(`I6: version ${version} is another than without the hostile updates`);
        }
      }
      for (const weight of hostile.totalWeights) {
        if (weight !== BigInt(10 * HONEST.length)) violations.push(`I3: a version weighs ${weight}`);
      }
      return { figures: { ...figures, rss_mib: Math.round(process.memoryUsage().rss / 2 ** 20) }, violations };
    } finally {
      await garbage.close();
      await links.close();
      await running.close();
      await nats.end('SIGTERM');
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

/** The same training without anybody who is bad, as long. */
async function cleanRun(versions: number): Promise<Outcome> {
  const folder = temporaryFolder('chaos-clean');
  const running = await startCoordinator({ dataDir: folder, grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  try {
    return await train(running.service, [], { rounds: versions - 1 }).outcome;
  } finally {
    await running.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Honest agents in this process, whose updates depend on agent and round alone; all of them count in every round. */
function train(
  service: CoordinatorService,
  traitors: readonly string[],
  { rounds = Infinity, storm = async () => {} }: { rounds?: number; storm?: (round: number) => Promise<void> },
) {
  const begun = Promise.withResolvers<GridSpec>();
  let isOver = false;
  let round = 0;
  const running = (async (): Promise<Outcome> => {
    await service.importModel('flowers', writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
    const plan = { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 4 };
    const cohort = { min: HONEST.length, max: HONEST.length + traitors.length };
    await service.createTask(
      'train',
      JSON.stringify({ model: 'flowers', plan, cohort, collectMs: 60_000, pauseMs: 0, weightMax: 1000, seed: 5 }),
    );
    const agents = [...traitors, ...HONEST].map((id) => new TestAgent(service, id));
    for (const agent of agents) agent.ready();
    await service.startTask('train');
    const honest = agents.filter(({ id }) => HONEST.includes(id));
    for (let next = 1; next <= rounds && !isOver; next++) {
      await until(`round ${next}`, 60_000, () => honest.every((agent) => agent.assignments().length >= next));
      const grid = gridFromWire(honest[0]!.assignments()[next - 1]!.grid!);
      round = next;
      begun.resolve(grid);
      const [first, ...others] = honest;
      await first!.submit(honestUpdate(first!.id, grid, next));
      await storm(next);
      for (const agent of others) await agent.submit(honestUpdate(agent.id, grid, next));
      // A traitor that was not refused yet is waited for: it fails.
      for (const id of traitors) {
        const failure = { task: 'train', round: BigInt(next), reason: 'no update' };
        agents.find((agent) => agent.id === id)!.say({ message: { case: 'failure', value: failure } });
      }
      await until(`version ${next + 1}`, 60_000, async () => Number((await service.getTask('train')).version) > next);
      for (const id of traitors) agents.find((agent) => agent.id === id)!.ready();
    }
    const { roundsAbandoned } = await service.getTask('train');
    const manifests = (await service.listVersions('flowers')).map(({ manifest }) =>
      fromBinary(ManifestSchema, manifest),
    );
    return {
      aborted: Number(roundsAbandoned),
      totalWeights: manifests.slice(1).map(({ totalWeight }) => totalWeight),
      weights: new Map(
        manifests.map(({ version, artifacts }) => [
          Number(version),
          Buffer.from(artifacts.find(({ role }) => role === 'weights')!.digest).toString('hex'),
        ]),
      ),
    };
  })();
  running.catch((error: unknown) => begun.reject(error));
  return {
    grid: begun.promise,
    round: () => round,
    outcome: running,
    end: () => {
      isOver = true;
      return running;
    },
  };
}

function honestUpdate(agentId: string, grid: GridSpec, round: number): ReturnType<typeof updateOf> {
  const random = seeded(`${agentId} ${round}`);
  const values = Float32Array.from({ length: LENGTH }, () => random.normal() * 0.1);
  const payload = encodings.mxint8.encode(values, grid, random);
  return updateOf(agentId, grid, { payload, round: BigInt(round), baseVersion: BigInt(round), weight: 10n });
}

function badUpdate(input: { kind: Kind; agentId: string; random: RandomStream; grid: GridSpec; round: number }): {
  header: UpdateHeader;
  payload: Uint8Array;
  from: number;
} {
  const { kind, agentId, random, grid, round } = input;
  const twos = new Float32Array(LENGTH).fill(2);
  let payload = encodings.mxint8.encode(twos, grid, random);
  if (kind === 'NaN') payload[0] = 0xff;
  if (kind === 'infinite') payload.fill(0xff, 0, 2);
  if (kind === 'too large a value') payload[0] = 200;
  if (kind === 'too short') payload = payload.slice(1);
  if (kind === 'a bomb') payload = new Uint8Array(zstdCompressSync(new Uint8Array(2 ** 20)).subarray(0, 40));
  if (kind === 'compressed garbage') payload = Uint8Array.from({ length: 30 }, () => random.integer(256));
  if (kind === 'too long') payload = new Uint8Array(payload.length + 1 + random.integer(1000));
  const at = { 'an old round': round - 1, 'a round to come': round + 1 + random.integer(5) }[kind as string] ?? round;
  const base = kind === 'another base' ? Math.max(0, round - 1) : round;
  const made = updateOf(agentId, grid, {
    payload,
    round: BigInt(Math.max(0, at)),
    baseVersion: BigInt(base),
    weight: 1n,
  });
  const { header } = made;
  if (kind === 'a raw size of 2 TB') header.rawSize = 2n ** 41n;
  // Smaller than what it says that it is; what comes of it is not.
  if (kind === 'a bomb' || kind === 'compressed garbage') header.rawSize = 41n;
  // Else it would be good: nobody of the cohort sends it.
  if (kind === 'from the middle') header.weight = 0n;
  if (kind === 'no weight') header.weight = 0n;
  if (kind === 'too much weight') header.weight = 1_000_000n;
  if (kind === 'another encoding') header.encoding = Encoding.FLOAT32;
  if (kind === 'a size of 2 TB') header.payloadSize = 2n ** 41n;
  if (kind === 'a stolen id') header.updateId = sha256(Uint8Array.of(random.integer(256)));
  if (kind === 'another task') header.task = 'nothing';
  if (kind === 'another digest') {
    header.payloadDigest = sha256(Uint8Array.of(1));
    const identity = { agentId, task: 'train', round: at, baseVersion: base, payloadDigest: header.payloadDigest };
    header.updateId = updateId(identity, sha256);
  }
  // It would be good with the weight that was meant.
  if (kind === 'a damaged header') return { header: { ...header, weight: 3n }, payload, from: 0 };
  if (kind === 'half of it') payload = payload.slice(0, payload.length >> 1);
  return { header: sealed(header), payload, from: kind === 'from the middle' ? payload.length >> 1 : 0 };
}

/** A link for each agent, over one transport and the other. */
function linksTo(
  { grpcPort }: RunningCoordinator,
  nats: string,
): { get(agentId: string): AgentLink; close(): Promise<void> } {
  const links = new Map<string, AgentLink>();
  return {
    get: (agentId) => {
      const known = links.get(agentId);
      if (known !== undefined) return known;
      const link = openAgentLink(links.size % 2 === 0 ? `grpc://127.0.0.1:${grpcPort}` : nats, agentId);
      links.set(agentId, link);
      return link;
    },
    close: async () => void (await Promise.all([...links.values()].map((link) => link.close()))),
  };
}
