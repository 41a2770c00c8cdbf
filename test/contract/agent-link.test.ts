import { randomBytes } from 'node:crypto';
import { create, fromBinary } from '@bufbuild/protobuf';
import { downloadBlob, sha256 } from '@commonweight/client-sdk';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { encodings, fedAvg2nn, gridFor, seeded, writeModel } from '@commonweight/core';
import {
  Encoding,
  equalBytes,
  HelloSchema,
  ManifestSchema,
  UpdateHeaderSchema,
  updateId,
  type Assignment,
  type SessionResponse,
  type SignedReceipt,
  type UpdateHeader,
} from '@commonweight/proto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { openAgentLink, type AgentLink, type OpenSession } from '../../edge-agent/src/link/agent-link.ts';
import { freePort } from '../support/free-port.ts';
import { listening, natsServer, temporaryFolder, until, type Program } from '../support/processes.ts';

let nats: Program;
let coordinator: RunningCoordinator;
let [grpcPort, natsPort] = [0, 0];
const dataDir = temporaryFolder('agent-link');

const start = (): Promise<RunningCoordinator> =>
  startCoordinator({
    dataDir,
    grpc: `127.0.0.1:${grpcPort}`,
    http: '127.0.0.1:0',
    nats: `nats://127.0.0.1:${natsPort}`,
  });

beforeAll(async () => {
  [grpcPort, natsPort] = [await freePort(), await freePort()];
  nats = natsServer(natsPort);
  await listening(natsPort, nats);
  coordinator = await start();
});

afterAll(async () => {
  await coordinator.close();
  await nats.end('SIGTERM');
});

const GRID = { valueMaxExponent: 3, weightMax: 10_000 };
const config = (model: string) => ({
  model,
  plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 },
  encoding: 'float32',
  cohort: { min: 1, max: 1 },
  rounds: 1,
  ...GRID,
});

/** A session, with what came over it. */
class Peer {
  readonly link: AgentLink;
  readonly agentId: string;
  readonly task: string;
  heard: SessionResponse['message'][] = [];
  ends: string[] = [];
  session: OpenSession | undefined;

  constructor(url: string, agentId: string, task: string) {
    this.link = openAgentLink(url, agentId);
    this.agentId = agentId;
    this.task = task;
  }

  open(): void {
    const sessionId = randomBytes(8).toString('hex');
    const { agentId, task } = this;
    this.session = this.link.openSession(
      create(HelloSchema, { agentId, sessionId, software: '0.1.0', task, examples: 5n }),
      { onMessage: ({ message }) => this.heard.push(message), onClosed: (why) => this.ends.push(why) },
    );
  }

  async hear<C extends SessionResponse['message']['case']>(
    what: C,
  ): Promise<Extract<SessionResponse['message'], { case: C }>> {
    const find = () => this.heard.find(({ case: is }) => is === what);
    await until(`${this.agentId} to hear ${what}`, 10_000, () => find() !== undefined);
    return find() as Extract<SessionResponse['message'], { case: C }>;
  }

  /** Comes, says ready and waits for what is to be done. */
  async invited(): Promise<Assignment> {
    this.open();
    await this.hear('welcome');
    this.session?.send({ case: 'ready', value: {} });
    return (await this.hear('assignment')).value;
  }

  /** An update of noise that fits the assignment: 797 kB, hence several chunks. */
  update({ base, round }: Assignment): { header: UpdateHeader; payload: Uint8Array } {
    if (base === undefined) throw new Error('an assignment has a base');
    const { version, artifacts } = fromBinary(ManifestSchema, base.manifest);
    const length = Number(artifacts.find(({ role }) => role === 'weights')?.size) / 4;
    const random = seeded(1).fork(this.agentId);
    const delta = Float32Array.from({ length }, () => random.normal() * 1e-3);
    const payload = encodings.float32.encode(delta, gridFor({ ...GRID, cohortMax: 1 }), random);
    const payloadDigest = sha256(payload);
    const { agentId, task } = this;
    const identity = { agentId, task, round: Number(round), baseVersion: Number(version), payloadDigest };
    const header = create(UpdateHeaderSchema, {
      updateId: updateId(identity, sha256),
      agentId,
      task,
      round,
      baseVersion: version,
      encoding: Encoding.FLOAT32,
      weight: 5n,
      payloadDigest,
      payloadSize: BigInt(payload.length),
    });
    return { header, payload };
  }
}

let count = 0;

describe.each([
  ['grpc', () => `grpc://127.0.0.1:${grpcPort}`],
  ['nats', () => `nats://127.0.0.1:${natsPort}`],
])('an agent link over %s', (kind, url) => {
  const peers: Peer[] = [];
  afterEach(async () => void (await Promise.all(peers.splice(0).map(({ link }) => link.close()))));

  /** An agent, and a running task of its own that waits for it. */
  async function peerWithTask(): Promise<Peer> {
    const name = `${kind}-${(count += 1)}`;
    await coordinator.service.importModel(name, writeModel(fedAvg2nn(1)));
    await coordinator.service.createTask(name, JSON.stringify(config(name)));
    await coordinator.service.startTask(name);
    const peer = new Peer(url(), `agent-${name}`, name);
    peers.push(peer);
    return peer;
  }

  const finished = (task: string) => async (): Promise<boolean> =>
    (await coordinator.service.getTask(task)).state === 'finished';

  test('takes an agent from Hello to the receipt of its update', async () => {
    const peer = await peerWithTask();
    const { header, payload } = peer.update(await peer.invited());
    expect(await peer.link.submit(header, payload, 0)).toMatchObject({ accepted: true });
    const receipt: SignedReceipt = (await peer.hear('receipt')).value;
    expect(receipt.signature.length).toBe(64);
    await until('the round to be published', 5000, finished(peer.task));
  });

  test('gives the same receipt again for the same bytes', async () => {
    const peer = await peerWithTask();
    const { header, payload } = peer.update(await peer.invited());
    await peer.link.submit(header, payload, 0);
    const first = (await peer.hear('receipt')).value;
    const again = await peer.link.submit(header, payload, 0);
    expect(again.accepted).toBe(true);
    expect(again.receipt?.receipt).toEqual(first.receipt);
    expect((await peer.link.updateStatus(header.updateId)).receipt?.receipt).toEqual(first.receipt);
  });

  test('goes on with an upload where it broke off', async () => {
    const peer = await peerWithTask();
    const { header, payload } = peer.update(await peer.invited());
    const { offset } = await coordinator.service.submitChunk(peer.agentId, header, 0, payload.subarray(0, 100_000));
    expect(Number(offset)).toBe(100_000);
    // A session that breaks keeps what came. Over NATS the coordinator would notice by silence only.
    peer.session?.close();
    const isAway = async (): Promise<boolean> =>
      (await coordinator.service.listAgents()).some(({ agentId, online }) => agentId === peer.agentId && !online);
    if (kind === 'grpc') await until('the agent to be away', 5000, isAway);
    const held = Number((await peer.link.updateStatus(header.updateId)).offset);
    expect(held).toBe(100_000);
    expect(await peer.link.submit(header, payload, held)).toMatchObject({ accepted: true });
    await until('the round to be published', 5000, finished(peer.task));
  });

  test('says where to go on when a chunk is out of place', async () => {
    const peer = await peerWithTask();
    const { header, payload } = peer.update(await peer.invited());
    const answer = await peer.link.submit(header, payload, 300_000);
    expect(answer).toMatchObject({ accepted: false, offset: 0n });
    expect(await peer.link.submit(header, payload, 0)).toMatchObject({ accepted: true });
  });

  test('refuses an update in the name of another with no harm to it', async () => {
    const peer = await peerWithTask();
    const { header, payload } = peer.update(await peer.invited());
    const thief = new Peer(url(), `${peer.agentId}-thief`, peer.task);
    peers.push(thief);
    const stolen = { ...header, agentId: thief.agentId };
    const answer = await thief.link.submit(stolen, payload, 0).catch((error: unknown) => error as Error);
    expect(answer).not.toMatchObject({ accepted: true });
    expect(await peer.link.submit(header, payload, 0)).toMatchObject({ accepted: true });
  });

  test('downloads a blob of several chunks by digest', async () => {
    const peer = await peerWithTask();
    const { base } = await peer.invited();
    const { artifacts } = fromBinary(ManifestSchema, base?.manifest ?? new Uint8Array());
    const weights = artifacts.find(({ role }) => role === 'weights');
    if (weights === undefined) throw new Error('a version has weights');
    const blob = await downloadBlob(peer.link.readBlob.bind(peer.link), weights.digest, Number(weights.size), {
      sha256,
    });
    expect(equalBytes(sha256(blob), weights.digest)).toBe(true);
  });

  test('a coordinator that goes is told, and the next session of the same agent goes on', async () => {
    const peer = await peerWithTask();
    const { header, payload } = peer.update(await peer.invited());
    await coordinator.close();
    await until('the session to end', 10_000, () => peer.ends.length > 0);
    coordinator = await start();
    peer.heard = [];
    let ends = 0;
    await until('a welcome', 20_000, () => {
      // The first try may still meet the broken connection.
      if (peer.ends.length > ends) peer.open();
      ends = peer.ends.length;
      return peer.heard.some(({ case: is }) => is === 'welcome');
    });
    const { updateId: id, task, round, baseVersion, payloadDigest } = header;
    const updates = [{ updateId: id, task, round, baseVersion, payloadDigest }];
    peer.session?.send({ case: 'offer', value: { updates } });
    expect(equalBytes((await peer.hear('wanted')).value.updateId, id)).toBe(true);
    expect(await peer.link.submit(header, payload, 0)).toMatchObject({ accepted: true });
    await peer.hear('receipt');
  });

  test('where nobody answers, the session ends and says where it tried', async () => {
    const port = await freePort();
    const peer = new Peer(`${kind}://127.0.0.1:${port}`, 'lonely', '');
    peers.push(peer);
    peer.open();
    if (kind === 'nats') {
      // The link goes on trying; the agent's own clock ends the session.
      await peer.link.close();
    }
    await until('the session to end', 10_000, () => peer.ends.length > 0);
    expect(peer.ends[0]).toContain(`127.0.0.1:${port}`);
  });
});
