import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import {
  AdminService,
  AgentService,
  file_commonweight_v1_agent,
  GetModelRequestSchema,
  ManifestSchema,
  MESSAGE_BYTES_MAX,
  ModelService,
  SessionRequestSchema,
  SubmitUpdateRequestSchema,
  WatchModelRequestSchema,
  WatchTaskRequestSchema,
  type GetModelResponse,
  type SessionRequest,
  type SessionResponse,
  type SubmitUpdateRequest,
  type SubmitUpdateResponse,
  type WatchModelResponse,
} from '@commonweight/proto';
import { status, type ServiceError } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { failureOf, grpcClient, rawExchange, rawUnary, type GrpcClient } from '../../../../test/support/grpc.ts';
import { temporaryFolder } from '../../../../test/support/processes.ts';
import { invited, startTraining, TestAgent, updateOf } from '../../../../test/support/training.ts';
import { openCoordinator } from '../../coordinator.ts';
import type { CoordinatorService } from '../../service.ts';
import { serveGrpc, type Listening } from './server.ts';

let service: CoordinatorService;
let server: Listening;
let clients: GrpcClient[] = [];

beforeEach(async () => {
  service = await openCoordinator({ dataDir: temporaryFolder('grpc') });
  server = await serveGrpc(service, { host: '127.0.0.1', port: 0 });
});

afterEach(async () => {
  for (const client of clients) client.close();
  clients = [];
  await server.close();
  await service.close();
});

function clientOf(...args: [Parameters<typeof grpcClient>[0]]): GrpcClient {
  const client = grpcClient(...args, server.port);
  clients.push(client);
  return client;
}

const getModel = (model: string): Promise<GetModelResponse> =>
  clientOf(ModelService).unary('getModel', create(GetModelRequestSchema, { model }));

/** Field 1 of a message, a text, as all requests of health and reflection have one. */
const textField = (field: number, value: string): Uint8Array => new BinaryWriter().tag(field, 2).string(value).finish();

/** The length-delimited fields of a message by number. */
function fieldsOf(bytes: Uint8Array): Map<number, Uint8Array[]> {
  const reader = new BinaryReader(bytes);
  const fields = new Map<number, Uint8Array[]>();
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (type === 2) fields.set(field, [...(fields.get(field) ?? []), reader.bytes()]);
    else reader.skip(type);
  }
  return fields;
}

test('health: the server and each of its services are SERVING, another is not known', async () => {
  const check = (name: string) => rawUnary(server.port, '/grpc.health.v1.Health/Check', textField(1, name));
  for (const name of ['', AgentService.typeName, ModelService.typeName, AdminService.typeName]) {
    // HealthCheckResponse: field 1 is SERVING, 1.
    expect([...(await check(name))]).toEqual([8, 1]);
  }
  await expect(check('another.v1.Service')).rejects.toMatchObject({ code: status.NOT_FOUND });
});

test.each(['v1', 'v1alpha'])('reflection %s lists the services and gives their descriptors', async (version) => {
  const path = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
  const listed = fieldsOf(await rawExchange(server.port, path, textField(7, '*')));
  const names = (fieldsOf(listed.get(6)![0]!).get(1) ?? []).map((one) =>
    String(Buffer.from(fieldsOf(one).get(1)![0]!)),
  );
  expect(names).toEqual(expect.arrayContaining([AgentService.typeName, ModelService.typeName, AdminService.typeName]));
  const found = fieldsOf(await rawExchange(server.port, path, textField(4, AgentService.typeName)));
  const files = (fieldsOf(found.get(4)![0]!).get(1) ?? []).map((file) => fromBinary(FileDescriptorProtoSchema, file));
  const agent = files.find(({ name }) => name === 'commonweight/v1/agent.proto');
  expect(toBinary(FileDescriptorProtoSchema, agent!)).toEqual(
    toBinary(FileDescriptorProtoSchema, file_commonweight_v1_agent.proto),
  );
  expect(files.map(({ name }) => name)).toContain('commonweight/v1/release.proto');
});

test('a message over the limit is refused, in a unary call and in a stream, and the server lives on', async () => {
  await expect(getModel('x'.repeat(MESSAGE_BYTES_MAX))).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED });
  const refused = new Promise<ServiceError | null>((resolve) => {
    const call = clientOf(AgentService).writes<SubmitUpdateRequest, SubmitUpdateResponse>('submitUpdate', resolve);
    call.write(create(SubmitUpdateRequestSchema, { data: new Uint8Array(MESSAGE_BYTES_MAX) }));
    call.end();
  });
  expect((await refused)?.code).toBe(status.RESOURCE_EXHAUSTED);
  await startTraining(service);
  expect((await getModel('flowers')).release?.publicKey).toEqual(Buffer.from(service.publicKey));
});

test('a message just below the limit is taken', async () => {
  await expect(getModel('x'.repeat(MESSAGE_BYTES_MAX - 10))).rejects.toMatchObject({ code: status.NOT_FOUND });
});

test('bytes that are no message end their call and are counted, and the server lives on', async () => {
  await expect(
    rawUnary(server.port, '/commonweight.v1.ModelService/GetModel', Buffer.from([0x0a, 0xff])),
  ).rejects.toMatchObject({ code: status.INTERNAL });
  expect(service.undecodable).toBe(1);
  await expect(getModel('nothing')).rejects.toMatchObject({ code: status.NOT_FOUND });
});

test.each([
  ['ready', { message: { case: 'ready', value: {} } }],
  ['nothing', {}],
] as const)('a session that begins with %s and not with Hello is an invalid argument', async (_, first) => {
  const call = clientOf(AgentService).writes<SessionRequest, SessionResponse>('session');
  const failure = failureOf(call);
  call.on('data', () => {});
  call.write(create(SessionRequestSchema, first));
  expect(await failure).toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: 'the first message of a session must be Hello',
  });
  expect(await service.listAgents()).toEqual([]);
});

test('an agent id that is no name is an invalid argument', async () => {
  const call = clientOf(AgentService).writes<SessionRequest, SessionResponse>('session');
  const failure = failureOf(call);
  call.on('data', () => {});
  call.write(create(SessionRequestSchema, { message: { case: 'hello', value: { agentId: 'a.*.b' } } }));
  expect(await failure).toMatchObject({ code: status.INVALID_ARGUMENT });
});

test('an upload without a header is an invalid argument', async () => {
  const refused = new Promise<ServiceError | null>((resolve) => {
    const call = clientOf(AgentService).writes<SubmitUpdateRequest, SubmitUpdateResponse>('submitUpdate', resolve);
    call.write(create(SubmitUpdateRequestSchema, { data: new Uint8Array(3) }));
    call.end();
  });
  expect((await refused)?.code).toBe(status.INVALID_ARGUMENT);
});

test('a model, a version and a task that are not there are not found, in calls and in watches', async () => {
  await expect(getModel('nothing')).rejects.toMatchObject({
    code: status.NOT_FOUND,
    details: 'there is no model "nothing": see `commonweight model list`',
  });
  const model = clientOf(ModelService).reads('watchModel', create(WatchModelRequestSchema, { model: 'nothing' }));
  expect(await failureOf(model.on('data', () => {}))).toMatchObject({ code: status.NOT_FOUND });
  const task = clientOf(AdminService).reads('watchTask', create(WatchTaskRequestSchema, { task: 'nothing' }));
  expect(await failureOf(task.on('data', () => {}))).toMatchObject({ code: status.NOT_FOUND });
});

test('a port that is in use is named, with what to do', async () => {
  await expect(serveGrpc(service, { host: '127.0.0.1', port: server.port })).rejects.toThrow(
    new RegExp(
      `cannot listen for gRPC on 127.0.0.1:${server.port}, which is in use: end the program that uses the port`,
    ),
  );
});

test('closing ends open watches and sessions with the reason, not by cutting them', async () => {
  await startTraining(service);
  const watches = [
    clientOf(ModelService).reads('watchModel', create(WatchModelRequestSchema, { model: 'flowers' })),
    clientOf(AdminService).reads('watchTask', create(WatchTaskRequestSchema, { task: 'train' })),
  ];
  const failures = watches.map((call) => failureOf(call));
  await Promise.all(watches.map((call) => new Promise((resolve) => call.on('data', resolve))));
  const session = clientOf(AgentService).writes<SessionRequest, SessionResponse>('session');
  const messages: SessionResponse[] = [];
  const ended = new Promise((resolve) => session.on('data', (one) => messages.push(one)).once('end', resolve));
  session.write(create(SessionRequestSchema, { message: { case: 'hello', value: { agentId: 'a' } } }));
  await expect.poll(() => messages.length).toBe(1);

  await server.close();
  for (const failure of failures) {
    expect(await failure).toMatchObject({ code: status.UNAVAILABLE, details: 'the coordinator is stopping' });
  }
  await ended;
  expect(messages.map(({ message }) => message.case)).toEqual(['welcome', 'comeBack']);
});

test('a slow reader of a watch skips what is out of date and ends up with the newest', async () => {
  const rounds = 150;
  await startTraining(service, { cohort: { min: 1, max: 1 }, rounds });
  const call = clientOf(ModelService).reads<WatchModelResponse>(
    'watchModel',
    create(WatchModelRequestSchema, { model: 'flowers' }),
  );
  // Not read yet. Full of metrics a manifest has 3 kB, and the windows of the connection hold a few dozen.
  const metrics = Object.fromEntries(Array.from({ length: 32 }, (_, i) => [`${i}`.padStart(64, 'm'), i]));
  const agent = new TestAgent(service, 'a');
  agent.ready();
  for (let round = 1; round <= rounds; round++) {
    const grid = await invited([agent], round);
    const update = updateOf('a', grid, { round: BigInt(round), baseVersion: BigInt(round), metrics });
    expect(await agent.submit(update)).toMatchObject({ accepted: true });
  }
  const told: number[] = [];
  await new Promise<void>((resolve) => {
    call.on('error', () => {});
    call.on('data', ({ release }: WatchModelResponse) => {
      told.push(Number(fromBinary(ManifestSchema, release!.manifest).version));
      if (told.at(-1) === rounds + 1) resolve();
    });
  });
  expect(told).toEqual([...new Set(told)].sort((a, b) => a - b));
  expect(told.length).toBeLessThan(rounds);
  call.cancel();
});
