import { create, fromBinary, toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import {
  agentInboxSubject,
  agentSubject,
  AgentServiceDownloadRequestSchema,
  AgentServiceDownloadResponseSchema,
  CHUNK_BYTES_MAX,
  ERROR_HEADER,
  GetModelRequestSchema,
  GetModelResponseSchema,
  GetUpdateStatusRequestSchema,
  GetUpdateStatusResponseSchema,
  ManifestSchema,
  MODEL_DOWNLOAD_SUBJECT,
  MODEL_GET_SUBJECT,
  ModelServiceDownloadRequestSchema,
  ModelServiceDownloadResponseSchema,
  ReceiptSchema,
  releaseSubject,
  SessionRequestSchema,
  SessionResponseSchema,
  SubmitUpdateRequestSchema,
  SubmitUpdateResponseSchema,
  WatchModelResponseSchema,
  type Manifest,
  type SessionResponse,
} from '@commonweight/proto';
import { fedAvg2nn, writeModel, type GridSpec } from '@commonweight/core';
import { connect, type Msg, type NatsConnection } from '@nats-io/transport-node';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { freePort } from '../../../../test/support/free-port.ts';
import { listening, natsServer, temporaryFolder, type Program } from '../../../../test/support/processes.ts';
import { config, invited, sha256, startTraining, TestAgent, updateOf } from '../../../../test/support/training.ts';
import { openCoordinator } from '../../coordinator.ts';
import type { CoordinatorService } from '../../service.ts';
import { serveNats } from './server.ts';

let port = 0;
let nats: Program;
let service: CoordinatorService;
let edge: { close(): Promise<void> };
let client: NatsConnection;
let lines: string[] = [];

const urlOf = (of: number): string => `nats://127.0.0.1:${of}`;

async function startNats(): Promise<void> {
  nats = natsServer(port);
  await listening(port, nats);
}

beforeAll(async () => {
  port = await freePort();
  await startNats();
});
afterAll(() => nats.end('SIGTERM'));

beforeEach(async () => {
  lines = [];
  service = await openCoordinator({ dataDir: temporaryFolder('nats') });
  edge = await serveNats(service, { url: urlOf(port), log: (line) => lines.push(line) });
  client = await connect({ servers: `127.0.0.1:${port}`, maxReconnectAttempts: -1, reconnectTimeWait: 100 });
});
afterEach(async () => {
  await client.close();
  await edge.close();
  await service.close();
});

async function ask<I extends DescMessage, O extends DescMessage>(
  subject: string,
  input: I,
  output: O,
  request: Parameters<typeof create<I>>[1],
): Promise<MessageShape<O>> {
  const reply = await client.request(subject, toBinary(input, create(input, request)), { timeout: 10_000 });
  expect(errorOf(reply)).toBe('');
  return fromBinary(output, reply.data);
}

const errorOf = (reply: Msg): string => reply.headers?.get(ERROR_HEADER) ?? '';

/** The error that a request is answered with. */
const refusal = async (subject: string, bytes: Uint8Array): Promise<string> =>
  errorOf(await client.request(subject, bytes, { timeout: 10_000 }));

const newest = async (model = 'flowers'): Promise<Manifest> => {
  const { release } = await ask(MODEL_GET_SUBJECT, GetModelRequestSchema, GetModelResponseSchema, { model });
  return fromBinary(ManifestSchema, release!.manifest);
};

async function trainingWith(agents: string[]): Promise<{ agents: TestAgent[]; grid: GridSpec }> {
  await startTraining(service, { cohort: { min: agents.length, max: agents.length } });
  const there = agents.map((id) => new TestAgent(service, id));
  for (const agent of there) agent.ready();
  return { agents: there, grid: await invited(there) };
}

const submit = (asAgent: string, { header, payload }: ReturnType<typeof updateOf>, offset = 0, end = payload.length) =>
  ask(agentSubject(asAgent, 'submit'), SubmitUpdateRequestSchema, SubmitUpdateResponseSchema, {
    header,
    offset: BigInt(offset),
    data: payload.subarray(offset, end),
  });

test('get: the newest release of a model, and not found by its code', async () => {
  await startTraining(service);
  expect(await newest()).toMatchObject({ model: 'flowers', version: 1n });
  const nothing = toBinary(GetModelRequestSchema, create(GetModelRequestSchema, { model: 'nothing' }));
  expect(await refusal(MODEL_GET_SUBJECT, nothing)).toBe(
    'not-found there is no model "nothing": see `commonweight model list`',
  );
  const long = toBinary(GetModelRequestSchema, create(GetModelRequestSchema, { model: 'x'.repeat(900_000) }));
  expect(await refusal(MODEL_GET_SUBJECT, long)).toMatch(/^not-found there is no model "x{80}"/);
});

test('download, for apps and for agents: a blob in chunks, whole and from where it was cut', async () => {
  await service.importModel('digits', writeModel(fedAvg2nn(1)));
  const { digest, size } = (await newest('digits')).artifacts.find(({ role }) => role === 'weights')!;
  const ways = [
    (offset: bigint) =>
      ask(MODEL_DOWNLOAD_SUBJECT, ModelServiceDownloadRequestSchema, ModelServiceDownloadResponseSchema, {
        digest,
        offset,
      }),
    (offset: bigint) =>
      ask(agentSubject('a', 'download'), AgentServiceDownloadRequestSchema, AgentServiceDownloadResponseSchema, {
        digest,
        offset,
      }),
  ];
  for (const from of ways) {
    const chunks: Uint8Array[] = [];
    for (let offset = 0n; offset < size;) {
      const part = await from(offset);
      expect(part).toMatchObject({ offset, totalSize: size });
      expect(part.data.length).toBeLessThanOrEqual(CHUNK_BYTES_MAX);
      chunks.push(part.data);
      offset += BigInt(part.data.length);
    }
    expect(chunks.length).toBeGreaterThan(1);
    expect(sha256(Buffer.concat(chunks))).toEqual(new Uint8Array(digest));
    expect((await from(size)).data).toHaveLength(0);
  }
  const beyond = create(ModelServiceDownloadRequestSchema, { digest, offset: size + 1n });
  expect(await refusal(MODEL_DOWNLOAD_SUBJECT, toBinary(ModelServiceDownloadRequestSchema, beyond))).toMatch(
    /^invalid /,
  );
});

test('submit and status: an update in chunks, resumed where status says, counted once', async () => {
  const { grid } = await trainingWith(['a', 'b']);
  const update = updateOf('a', grid);
  const status = () =>
    ask(agentSubject('a', 'status'), GetUpdateStatusRequestSchema, GetUpdateStatusResponseSchema, {
      updateId: update.header.updateId,
    });
  expect(await submit('a', update, 0, 10)).toMatchObject({ offset: 10n, accepted: false });
  expect(await status()).toMatchObject({ offset: 10n, accepted: false });
  expect(await submit('a', update, 10)).toMatchObject({ accepted: true });
  expect(await submit('a', update)).toMatchObject({ accepted: true });
  expect(await status()).toMatchObject({ accepted: true });
  await submit('b', updateOf('b', grid));
  const { receipt } = await status();
  expect(fromBinary(ReceiptSchema, receipt!.receipt).outcome).toEqual({ case: 'committedVersion', value: 2n });
  expect(await newest()).toMatchObject({ version: 2n, totalWeight: 20n });
});

test('an agent cannot submit in the name of another: the id of its subject counts', async () => {
  const { agents, grid } = await trainingWith(['a', 'b']);
  const { header, payload } = updateOf('a', grid);
  const stolen = toBinary(SubmitUpdateRequestSchema, create(SubmitUpdateRequestSchema, { header, data: payload }));
  expect(await refusal(agentSubject('b', 'submit'), stolen)).toBe(
    'invalid agent b sent an update in the name of another',
  );
  // With its own name on it, the id is no longer the hash of who, what and on which base.
  const answer = await submit('b', { header: { ...header, agentId: 'b' }, payload });
  expect([answer.accepted, answer.receipt]).toEqual([false, undefined]);
  expect((await service.getTask('train')).rejectedByReason).toEqual({ 'wrong-id': 1n });
  expect((await service.getTask('train')).accepted).toBe(0);
  // Neither attempt took the update from its owner.
  expect(await submit('a', updateOf('a', grid))).toMatchObject({ accepted: true });
  expect(agents[0]!.receipts()).toEqual([]);
});

/** Speaks the session of an agent over NATS and keeps what it hears. */
function sessionOf(agentId: string, sessionId: string) {
  const heard: SessionResponse[] = [];
  client.subscribe(agentInboxSubject(agentId), {
    callback: (_, { data }) => void heard.push(fromBinary(SessionResponseSchema, data)),
  });
  return {
    heard,
    cases: () => heard.filter((one) => one.sessionId === sessionId).map(({ message }) => message.case),
    say: (message: Parameters<typeof create<typeof SessionRequestSchema>>[1]) =>
      client.publish(
        agentSubject(agentId, 'session'),
        toBinary(SessionRequestSchema, create(SessionRequestSchema, { sessionId, ...message })),
      ),
  };
}

test('a session: hello, welcome, ready, an assignment, and the receipt in the inbox', async () => {
  await startTraining(service, { cohort: { min: 1, max: 1 } });
  const { say, cases, heard } = sessionOf('a', 's1');
  say({ message: { case: 'hello', value: { agentId: 'a', sessionId: 's1' } } });
  say({ message: { case: 'ready', value: {} } });
  await expect.poll(cases).toEqual(['welcome', 'assignment']);
  expect(heard[0]!.message.value).toMatchObject({ publicKey: Buffer.from(service.publicKey) });
  const assignment = heard[1]!.message;
  if (assignment.case !== 'assignment') throw new Error('not an assignment');
  await submit('a', updateOf('a', assignment.value.grid!));
  await expect.poll(cases).toContain('receipt');
  expect(await service.listAgents()).toMatchObject([{ agentId: 'a', link: 'nats', online: true }]);
});

test('an agent cannot open the session of another: hello on another subject is not heard', async () => {
  const [own, other] = [sessionOf('mallory', 's9'), sessionOf('a', 's9')];
  own.say({ message: { case: 'hello', value: { agentId: 'a', sessionId: 's9' } } });
  await expect.poll(own.cases).toEqual(['comeBack']);
  expect(other.heard).toEqual([]);
  expect(await service.listAgents()).toEqual([]);
});

test('a message of an older session changes nothing and is told to say hello again', async () => {
  const [older, newer] = [sessionOf('a', 's1'), sessionOf('a', 's2')];
  older.say({ message: { case: 'hello', value: { agentId: 'a', sessionId: 's1' } } });
  await expect.poll(older.cases).toEqual(['welcome']);
  newer.say({ message: { case: 'hello', value: { agentId: 'a', sessionId: 's2' } } });
  await expect.poll(newer.cases).toEqual(['welcome']);
  await expect.poll(older.cases).toEqual(['welcome', 'comeBack']);
  older.say({ message: { case: 'ready', value: {} } });
  await expect.poll(older.cases).toEqual(['welcome', 'comeBack', 'comeBack']);
  expect(await service.listAgents()).toMatchObject([{ agentId: 'a', online: true, ready: false }]);
});

test('bytes that are no message are invalid on every subject, counted, and the edge goes on', async () => {
  const garbage = Buffer.from([0x0a, 0xff, 0xff]);
  const subjects = [
    MODEL_GET_SUBJECT,
    MODEL_DOWNLOAD_SUBJECT,
    ...(['download', 'status', 'submit'] as const).map((verb) => agentSubject('a', verb)),
  ];
  for (const subject of subjects) expect(await refusal(subject, garbage)).toMatch(/^invalid not a commonweight\.v1\./);
  client.publish(agentSubject('a', 'session'), garbage);
  await expect.poll(() => service.undecodable).toBe(subjects.length + 1);
  expect(lines).toEqual([
    expect.stringMatching(/^NATS cw\.v1\.agent\.a\.session: not a commonweight\.v1\.SessionRequest/),
  ]);
  expect(await refusal(agentSubject('a', 'submit'), new Uint8Array())).toBe(
    'invalid every chunk of an upload over NATS carries the header',
  );
  await startTraining(service);
  expect(await newest()).toMatchObject({ version: 1n });
});

test('each version is announced on the subject of its model', async () => {
  const told: number[] = [];
  client.subscribe(releaseSubject('flowers'), {
    callback: (_, { data }) => {
      const { release } = fromBinary(WatchModelResponseSchema, data);
      told.push(Number(fromBinary(ManifestSchema, release!.manifest).version));
    },
  });
  await client.flush();
  const { agents, grid } = await trainingWith(['a', 'b']);
  for (const agent of agents) await agent.submit(updateOf(agent.id, grid));
  await expect.poll(() => told).toEqual([1, 2]);
});

test('two coordinators at one server share the work: a request has one answer', async () => {
  const second = await serveNats(service, { url: urlOf(port) });
  await service.importModel('flowers', writeModel(fedAvg2nn(1)));
  const request = toBinary(GetModelRequestSchema, create(GetModelRequestSchema, { model: 'flowers' }));
  let answers = 0;
  client.subscribe('answers', { callback: () => void answers++ });
  for (let i = 0; i < 20; i++) client.publish(MODEL_GET_SUBJECT, request, { reply: 'answers' });
  await expect.poll(() => answers).toBe(20);
  await second.close();
  // What came is all that comes: both edges have answered everything before this.
  await newest();
  expect(answers).toBe(20);
});

test('a NATS server that is not there is named, with what to do', async () => {
  const nowhere = await freePort();
  await expect(serveNats(service, { url: urlOf(nowhere) })).rejects.toThrow(
    new RegExp(`cannot reach the NATS server nats://127.0.0.1:${nowhere} \\(.*\\): start it, or leave out --nats`),
  );
});

test('after a restart of the NATS server the edge answers again, and training goes on', async () => {
  const { agents, grid } = await trainingWith(['a', 'b']);
  await submit('a', updateOf('a', grid));
  await nats.end('SIGKILL');
  // Without the server the coordinator itself goes on.
  await agents[1]!.submit(updateOf('b', grid));
  expect((await service.getTask('train')).version).toBe(2n);
  await startNats();
  const request = toBinary(GetModelRequestSchema, create(GetModelRequestSchema, { model: config.model }));
  const answered = async (): Promise<boolean> => {
    try {
      return errorOf(await client.request(MODEL_GET_SUBJECT, request, { timeout: 1000 })) === '';
    } catch {
      return false;
    }
  };
  await expect.poll(answered).toBe(true);
  expect(await newest()).toMatchObject({ version: 2n });
  const { say, cases } = sessionOf('c', 's1');
  await client.flush();
  say({ message: { case: 'hello', value: { agentId: 'c', sessionId: 's1' } } });
  await expect.poll(cases).toEqual(['welcome']);
});
