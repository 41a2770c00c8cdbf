import { copyFileSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, fromBinary, toBinary, toJson, type DescMessage, type Message } from '@bufbuild/protobuf';
import { WireType } from '@bufbuild/protobuf/wire';
import { openCoordinator, openSigner, SqliteStore, verifyStore, type CoordinatorService } from '@commonweight/coordinator';
import { logistic, writeModel } from '@commonweight/core';
import { runAgent, type AgentEvent } from '@commonweight/edge-agent';
import {
  ManifestSchema,
  openManifest,
  ReceiptSchema,
  SignedManifestSchema,
  UpdateHeaderSchema,
  type SessionResponse,
} from '@commonweight/proto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { serveGrpc } from '../../coordinator/src/edges/grpc/server.ts';
import { verifierOf } from '../../coordinator/src/identity/signer.ts';
import { files } from './messages.ts';
import { migrations } from '../../coordinator/src/store/schema.ts';
import { DATABASE_FILE } from '../../coordinator/src/store/sqlite-store.ts';
import { PostgresServer } from '../support/postgres.ts';
import { temporaryFolder, until } from '../support/processes.ts';
import { config, TestAgent, updateOf } from '../support/training.ts';
import { folderWithKey } from './vectors.ts';

/** What an older commit left behind, see compatibility/write.ts. */
interface Left {
  versions: Record<string, { manifest: string; signature: string }[]>;
  tasks: { task: string; state: string; phase: string; counts: number[]; strategy: string; config: object }[];
  /** Receipts of those who were counted, and last the one of an update that was refused. */
  receipts: string[];
  /** Of `train`: two of round 1, two of round 2 of which the second was not delivered; then two of `middle`. */
  updates: { header: string; payload: string }[];
  /** What the older code made of the round that it left open. */
  finished: { artifacts: string[]; totalWeight: number; contributions: string };
}

const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const home = join(import.meta.dirname, 'compatibility');
const folders = readdirSync(home, { withFileTypes: true }).flatMap((one) => (one.isDirectory() ? [one.name] : []));
const textOf = (folder: string, file: string): string => readFileSync(join(home, folder, file), 'utf8');
const leftIn = (folder: string): Left => JSON.parse(textOf(folder, 'expected.json')) as Left;

const open: { close(): Promise<void> }[] = [];
const fatal: Error[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
  expect(fatal.splice(0)).toEqual([]);
});

async function opened(options: { dataDir: string; postgres?: string }): Promise<CoordinatorService> {
  const service = await openCoordinator({ ...options, onFatal: (error) => void fatal.push(error) });
  open.push(service);
  return service;
}

test('there is golden data of the schema before the newest migration', () => {
  expect(folders).toContain(`schema-${migrations.length - 1}`);
});

/** The agents of the open round deliver what they kept of it, and a version comes of it as the older code would have made it. */
async function goesOn(service: CoordinatorService, { updates, finished }: Left): Promise<void> {
  const [, , a, b] = updates.map(({ header, payload }) => ({
    header: fromBinary(UpdateHeaderSchema, bytesOf(header)),
    payload: bytesOf(payload),
  }));
  for (const update of [a!, b!]) {
    const agent = new TestAgent(service, update.header.agentId);
    const { updateId, task, round, baseVersion, payloadDigest } = update.header;
    const offer = { updateId, task, round, baseVersion, payloadDigest };
    agent.say({ message: { case: 'offer', value: { updates: [offer] } } });
    expect(await agent.submit(update)).toMatchObject({ accepted: true });
  }
  const newest = async () => fromBinary(ManifestSchema, (await service.getModel('flowers', 0)).manifest);
  await expect.poll(async () => Number((await newest()).version)).toBe(3);
  const { artifacts, totalWeight, contributionsDigest } = await newest();
  expect({
    artifacts: artifacts.map(({ role, digest }) => `${role} ${hexOf(digest)}`),
    totalWeight: Number(totalWeight),
    contributions: hexOf(contributionsDigest),
  }).toEqual(finished);
}

const manifestsOf = async (service: CoordinatorService, model: string) =>
  (await service.listVersions(model)).map(({ manifest, signature }) => ({
    manifest: hexOf(manifest),
    signature: hexOf(signature),
  }));

async function tasksOf(service: CoordinatorService) {
  return (await service.listTasks()).map((status) => {
    const { task, state, phase, round, version, updatesAccepted, updatesRejected, strategy } = status;
    const counts = [round, version, updatesAccepted, updatesRejected].map(Number);
    return { task, state, phase, counts, strategy };
  });
}

async function expectServed(service: CoordinatorService, { versions, receipts }: Left): Promise<void> {
  for (const { manifest } of Object.values(versions).flat()) {
    for (const { digest, size } of fromBinary(ManifestSchema, bytesOf(manifest)).artifacts) {
      const { data, totalSize } = await service.readBlob(digest, 0, Number(size));
      expect({ size: BigInt(totalSize), length: data.length }).toEqual({ size, length: Number(size) });
    }
  }
  for (const receipt of receipts) {
    const { updateId } = fromBinary(ReceiptSchema, bytesOf(receipt));
    const status = await service.updateStatus(updateId);
    expect(hexOf(status.receipt?.receipt ?? new Uint8Array())).toBe(receipt);
  }
}

describe.each(folders)('data of %s', (folder) => {
  const left = leftIn(folder);

  test('in SQLite is migrated, served, and its open round goes on', async () => {
    const dataDir = folderWithKey();
    copyFileSync(join(home, folder, DATABASE_FILE), join(dataDir, DATABASE_FILE));
    const service = await opened({ dataDir });
    for (const [model, versions] of Object.entries(left.versions)) {
      expect(await manifestsOf(service, model)).toEqual(versions);
    }
    // What the open round had lives in its agents: they are asked again.
    const asked = left.tasks.map(({ config: _, counts: [round, version, accepted, rejected], ...rest }) => ({
      ...rest,
      counts: [round, version, rest.phase === 'Collecting' ? accepted! - 1 : accepted, rejected],
    }));
    expect(await tasksOf(service)).toEqual(asked.sort((x, y) => (x.task < y.task ? -1 : 1)));
    for (const { task, config: was } of left.tasks) {
      expect(JSON.parse((await service.getTask(task)).configJson)).toMatchObject(was);
    }
    await expectServed(service, left);
    await goesOn(service, left);
    await open.pop()!.close();
    const store = SqliteStore.open(dataDir);
    open.push(store);
    const { models, damages } = await verifyStore(store, openSigner(dataDir).publicKey);
    expect(damages).toEqual([]);
    expect(models).toMatchObject([
      { model: 'flowers', versions: 3, updates: 4 },
      { model: 'trees', versions: 2, updates: 2 },
    ]);
  });

  test('every message that it wrote means the same, also with fields of a future version in it', () => {
    const messages = JSON.parse(textOf(folder, 'messages.json')) as Record<string, { type: string; bytes: string; means: object }>;
    for (const [name, { type, bytes, means }] of Object.entries(messages)) {
      const schema = schemas.get(type);
      if (schema === undefined) throw new Error(`${name}: there is no ${type} any more`);
      const read = fromBinary(schema, bytesOf(bytes));
      expect(toJson(schema, read), name).toEqual(means);
      const future = toBinary(schema, withUnknownFields(read));
      expect(future.length, name).toBeGreaterThan(bytes.length / 2);
      expect(toJson(schema, fromBinary(schema, future)), `${name} of the future`).toEqual(means);
    }
  });
});

const schemas = new Map<string, DescMessage>(
  files.flatMap(({ messages }) => messages).map((schema) => [schema.typeName, schema]),
);

/** The message with a number and bytes under numbers that nobody has given yet, in it and in all messages in it. */
function withUnknownFields<T extends Message>(message: T): T {
  const entries = Object.entries(message).map(([key, value]) => [key, grown(value)] as const);
  const varint = { no: 4000, wireType: WireType.Varint, data: Uint8Array.of(7) };
  const delimited = { no: 4001, wireType: WireType.LengthDelimited, data: Uint8Array.of(2, 8, 1) };
  return Object.assign(Object.create(Object.getPrototypeOf(message) as object) as T, Object.fromEntries(entries), {
    $typeName: message.$typeName,
    $unknown: [varint, delimited],
  });
}

function grown(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(grown);
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  if ('$typeName' in value) return withUnknownFields(value as Message);
  return 'case' in value && 'value' in value ? { ...value, value: grown(value.value) } : value;
}

describe('PostgreSQL', () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await PostgresServer.start();
  });
  afterAll(() => server.close());

  test.each(folders)('data of %s is migrated, served, and its open round goes on', async (folder) => {
    const left = leftIn(folder);
    const database = await server.database();
    await server.query(database, textOf(folder, 'postgres.sql'));
    const service = await opened({ dataDir: folderWithKey(), postgres: server.url(database) });
    // It leads once the lease of the older coordinator, which gave it up, is seen to be free.
    await expect.poll(async () => (await service.listTasks()).length).toBe(2);
    const outline = (hex: string) => {
      const { version, task, artifacts, totalWeight } = fromBinary(ManifestSchema, bytesOf(hex));
      return { version, task, artifacts, totalWeight };
    };
    for (const [model, versions] of Object.entries(left.versions)) {
      const there = await manifestsOf(service, model);
      expect(there.map(({ manifest }) => outline(manifest))).toEqual(versions.map(({ manifest }) => outline(manifest)));
    }
    await expectServed(service, { ...left, versions: {} });
    await goesOn(service, left);
  });
});

test('a manifest with fields of a future version is verified by its bytes and read', () => {
  const signer = openSigner(folderWithKey());
  const manifest = toBinary(ManifestSchema, withUnknownFields(create(ManifestSchema, { model: 'm', version: 7n })));
  const signed = create(SignedManifestSchema, {
    manifest,
    signature: signer.sign('Manifest', manifest),
    publicKey: signer.publicKey,
  });
  expect(openManifest(signed, signer.publicKey, verifierOf(signer.publicKey))).toMatchObject({ model: 'm', version: 7n });
});

/** A coordinator over gRPC that sends what `pass` makes of its messages. */
async function between(pass: (message: SessionResponse) => SessionResponse[]) {
  const service = await opened({ dataDir: temporaryFolder('compatibility') });
  const heard: string[] = [];
  let sessions = 0;
  const connectAgent: CoordinatorService['connectAgent'] = (hello, sink) => {
    sessions += 1;
    const session = service.connectAgent(hello, { ...sink, send: (message) => pass(message).forEach((one) => sink.send(one)) });
    return {
      receive: (message) => {
        heard.push(message.message.case ?? 'unknown');
        session.receive(message);
      },
      closed: () => session.closed(),
    };
  };
  const proxy = new Proxy(service, {
    get: (target, key) => {
      if (key === 'connectAgent') return connectAgent;
      const value = Reflect.get(target, key, target) as unknown;
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  const edge = await serveGrpc(proxy, { host: '127.0.0.1', port: 0 });
  open.push(edge);
  const events: AgentEvent[] = [];
  const stop = new AbortController();
  const running = runAgent({
    coordinator: `grpc://127.0.0.1:${edge.port}`,
    data: 'mnist?partition=0/40&seed=1',
    agentId: 'a0',
    dataDir: temporaryFolder('agent'),
    signal: stop.signal,
    onEvent: (event) => events.push(event),
  });
  open.push({
    close: async () => {
      stop.abort();
      await running;
    },
  });
  const heartbeats = (): number => heard.filter((kind) => kind === 'heartbeat').length;
  return { heartbeats, events, sessions: () => sessions };
}

/** The shortest time between heartbeats that an agent takes. */
const hurried = (message: SessionResponse, answersHeartbeats = true): SessionResponse =>
  message.message.case === 'welcome'
    ? {
        ...message,
        message: { case: 'welcome', value: { ...message.message.value, heartbeatMs: 500, answersHeartbeats } },
      }
    : message;

describe('an agent', () => {
  test('keeps its session with a coordinator that never answers a heartbeat, as those before Alive', async () => {
    const { heartbeats, events, sessions } = await between((message) =>
      message.message.case === 'alive' ? [] : [hurried(message, false)],
    );
    await until('twice the heartbeats that an answering coordinator may leave', 20_000, () => heartbeats() >= 6);
    expect({ sessions: sessions(), lost: events.filter(({ type }) => type === 'disconnected') }).toEqual({ sessions: 1, lost: [] });
  });

  test('leaves a coordinator that answered once and then no more', async () => {
    let answers = 0;
    const { events, sessions } = await between((message) =>
      message.message.case !== 'alive' || (answers += 1) === 1 ? [hurried(message)] : [],
    );
    await until('a second session', 20_000, () => sessions() >= 2);
    expect(events).toContainEqual(expect.objectContaining({ type: 'disconnected', why: expect.stringContaining('does not answer any more') as string }));
  });

  test('takes no notice of a message that only a future coordinator sends', async () => {
    const unknown = { $typeName: 'commonweight.v1.SessionResponse', message: { case: undefined }, sessionId: '' } as const;
    const future = { no: 9, wireType: WireType.LengthDelimited, data: Uint8Array.of(0) };
    const { heartbeats, sessions } = await between((message) => [{ ...unknown, $unknown: [future] }, hurried(message)]);
    await until('it to go on', 20_000, () => heartbeats() >= 2);
    expect(sessions()).toBe(1);
  });
});

test('a coordinator takes no notice of a message that only a future agent sends, and takes its update', async () => {
  const service = await opened({ dataDir: temporaryFolder('compatibility') });
  await service.importModel('flowers', writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
  await service.createTask('train', JSON.stringify({ ...config, cohort: { min: 1, max: 1 } }));
  await service.startTask('train');
  const agent = new TestAgent(service, 'a');
  agent.say({ message: { case: undefined } });
  agent.ready();
  await expect.poll(() => agent.assignments().length).toBe(1);
  const { lsbExponent, valueMaxExponent, weightMax, cohortMax } = agent.assignments()[0]!.grid!;
  const { header, payload } = updateOf('a', { lsbExponent, valueMaxExponent, weightMax, cohortMax });
  const future = fromBinary(UpdateHeaderSchema, toBinary(UpdateHeaderSchema, withUnknownFields(header)));
  expect(await agent.submit({ header: future, payload })).toMatchObject({ accepted: true });
  await expect.poll(() => agent.receipts().length).toBe(1);
});
