/** What the endpoint takes over gRPC at once, and how it says no: before the bytes come, in words, and without keeping anything of it. */
import { connect as connectHttp2, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { logistic, mlp, writeModel } from '@commonweight/core';
import { startServing, type Serving, type ServingEvent, type ServingOptions } from '@commonweight/edge-agent';
import { inference } from '@commonweight/proto';
import { status, type ServiceError } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { grpcClient, type GrpcClient } from '../support/grpc.ts';
import { temporaryFolder, until } from '../support/processes.ts';

let coordinator: RunningCoordinator;
const closers: (() => unknown)[] = [];

beforeAll(async () => {
  const dataDir = join(temporaryFolder('serving-grpc-limits'), 'coordinator');
  coordinator = await startCoordinator({ dataDir, grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  await coordinator.service.importModel('flowers', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
  // Slow enough that 64 requests cannot come one after the other.
  const slow = mlp({ inputs: 4, hidden: [1500, 1500, 1500], outputs: 3, seed: 1 });
  await coordinator.service.importModel('slow', writeModel(slow));
});
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});
afterAll(() => coordinator.close());

async function endpoint(options: Partial<ServingOptions> = {}): Promise<Serving> {
  const events: ServingEvent[] = [];
  const serving = await startServing({
    coordinator: `grpc://127.0.0.1:${coordinator.grpcPort}`,
    models: ['flowers'],
    http: '127.0.0.1:0',
    grpc: '127.0.0.1:0',
    onEvent: (event) => events.push(event),
    ...options,
  });
  closers.push(() => serving.close());
  await until('the model', 30_000, () => events.some(({ type }) => type === 'batching'));
  return serving;
}

/** A client with a connection of its own. */
function clientOf({ grpcPort }: Serving): GrpcClient {
  const client = grpcClient(inference.GRPCInferenceService, grpcPort!, { 'grpc.use_local_subchannel_pool': 1 });
  closers.push(() => client.close());
  return client;
}

const request = (modelName = 'flowers'): inference.ModelInferRequest =>
  create(inference.ModelInferRequestSchema, {
    modelName,
    inputs: [{ name: 'input', datatype: 'FP32', shape: [1n, 4n], contents: { fp32Contents: [5.1, 3.5, 1.4, 0.2] } }],
  });

/** What a prediction comes to: `OK`, or the error. */
const infer = (client: GrpcClient, modelName?: string): Promise<'OK' | ServiceError> =>
  client.unary<inference.ModelInferResponse>('modelInfer', request(modelName)).then(
    ({ outputs }) => (outputs[0]?.shape[1] === 3n ? 'OK' : Promise.reject(new Error('no answer'))),
    (error: ServiceError) => error,
  );

const isLive = (client: GrpcClient): Promise<unknown> =>
  client.unary('serverLive', create(inference.ServerLiveRequestSchema));

/** Figures of gRPC's door in /metrics. */
async function doorOf({ httpPort }: Serving): Promise<{ connections: number; underWay: number; heldBytes: number }> {
  const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
  const figure = (name: string): number =>
    Number(new RegExp(`^commonweight_serving_${name}\\{protocol="grpc"\\} (\\d+)$`, 'm').exec(text)?.[1]);
  return {
    connections: figure('connections'),
    underWay: figure('requests_under_way'),
    heldBytes: figure('held_bytes'),
  };
}

const nothingIsKept = (serving: Serving): Promise<void> =>
  until('nothing to be kept', 10_000, async () => {
    const { underWay, heldBytes } = await doorOf(serving);
    return underWay === 0 && heldBytes === 0;
  });

/** A call whose message comes piece by piece, as none of the libraries sends it. */
class RawCall {
  readonly stream: ClientHttp2Stream;
  /** Its status, as soon as there is one. */
  readonly ended: Promise<{ code: number; details: string }>;

  constructor(session: ClientHttp2Session, method = 'ModelInfer') {
    this.stream = session.request({
      ':method': 'POST',
      ':path': `/inference.GRPCInferenceService/${method}`,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    this.ended = new Promise((resolve) => {
      const hear = (headers: Record<string, unknown>): void => {
        if (headers['grpc-status'] === undefined) return;
        resolve({
          code: Number(headers['grpc-status']),
          details: decodeURIComponent(String(headers['grpc-message'])),
        });
      };
      this.stream
        .on('response', hear)
        .on('trailers', hear)
        .on('error', () => {})
        .resume();
    });
  }

  /** Says how long the message is, and sends nothing of it. */
  announce(bytes: number, isCompressed = false): this {
    const head = Buffer.alloc(5);
    head.writeUInt8(Number(isCompressed), 0);
    head.writeUInt32BE(bytes, 1);
    this.stream.write(head);
    return this;
  }

  cancel(): void {
    this.stream.close(8);
  }
}

function sessionTo({ grpcPort }: Serving, settings = {}): ClientHttp2Session {
  const session = connectHttp2(`http://127.0.0.1:${grpcPort}`, { settings });
  closers.push(() => session.destroy());
  return session;
}

test('under load some are answered, the others hear UNAVAILABLE and why, and nothing is kept of it', async () => {
  const serving = await endpoint({ models: ['slow'], queueMax: 1, batchMax: 2 });
  const client = clientOf(serving);
  for (let turn = 0; turn < 3; turn++) {
    const answers = await Promise.all(Array.from({ length: 64 }, () => infer(client, 'slow')));
    const refused = answers.filter((answer) => answer !== 'OK');
    expect(refused.length).toBeGreaterThan(0);
    expect(refused.length).toBeLessThan(64);
    for (const { code, details, metadata } of refused) {
      expect({ code, details, pushback: metadata.get('grpc-retry-pushback-ms') }).toEqual({
        code: status.UNAVAILABLE,
        details: "the queue of 'slow' is full, with 1 waiting: try again later, or serve it from more processes",
        pushback: ['1000'],
      });
    }
    expect(await infer(client, 'slow')).toBe('OK');
  }
  await nothingIsKept(serving);
});

test('where the queue is full a call is refused by its headers alone, over HTTP too', async () => {
  const serving = await endpoint({ queueMax: 1, batchDelayMs: 600_000 });
  const session = sessionTo(serving);
  const waiting = new RawCall(session);
  const message = toBinary(inference.ModelInferRequestSchema, request());
  waiting.announce(message.length).stream.end(message);
  const queued = async (): Promise<boolean> =>
    (await (await fetch(`http://127.0.0.1:${serving.httpPort}/metrics`)).text()).includes(
      'commonweight_serving_queue_length{model="flowers"} 1',
    );
  await until('one to wait', 10_000, queued);
  const words = "the queue of 'flowers' is full, with 1 waiting: try again later, or serve it from more processes";
  expect(await new RawCall(session).ended).toEqual({ code: status.UNAVAILABLE, details: words });
  const text = await new Promise<string>((resolve, reject) => {
    const socket: Socket = connect(serving.httpPort, '127.0.0.1', () =>
      socket.write('POST /v2/models/flowers/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n'),
    );
    socket.once('data', (data) => (socket.destroy(), resolve(String(data)))).once('error', reject);
  });
  expect(text).toMatch(/^HTTP\/1.1 429 /);
  expect(text).toContain(words);
  waiting.cancel();
  await nothingIsKept(serving);
});

test('predictions under way have a limit over all connections, and health is answered beyond it', async () => {
  const serving = await endpoint({ limits: { callsMax: 2 } });
  const halves = [sessionTo(serving), sessionTo(serving)].map((session) => new RawCall(session).announce(100));
  await until('both', 10_000, async () => (await doorOf(serving)).underWay === 2);
  const client = clientOf(serving);
  expect(await infer(client)).toMatchObject({
    code: status.UNAVAILABLE,
    details:
      '2 predictions are under way over gRPC, and no more are taken at once: try again later, or serve from more processes',
  });
  expect(await isLive(client)).toMatchObject({ live: true });
  for (const half of halves) half.cancel();
  await nothingIsKept(serving);
  expect(await infer(client)).toBe('OK');
});

test('bytes count from when they are announced; a compressed message counts as the largest that it may become', async () => {
  const serving = await endpoint();
  const session = sessionTo(serving);
  const large = 64 * 2 ** 20;
  const announced = [false, false, true].map((isCompressed) =>
    new RawCall(session).announce(isCompressed ? 9 : large, isCompressed),
  );
  await until('three', 10_000, async () => (await doorOf(serving)).heldBytes === 3 * large);
  announced.push(new RawCall(session).announce(large));
  await until('four', 10_000, async () => (await doorOf(serving)).heldBytes === 4 * large);
  const details = `requests of ${4 * large} bytes are under way and at most ${4 * large} are taken at once: try again later`;
  expect(await new RawCall(session).announce(1).ended).toEqual({ code: status.UNAVAILABLE, details });
  for (const call of announced) call.cancel();
  await nothingIsKept(serving);
  expect(await infer(clientOf(serving))).toBe('OK');
});

test('a message that is announced as too large is refused before any of it comes, and so is a long question', async () => {
  const serving = await endpoint({ bodyBytesMax: 2 ** 20 });
  const session = sessionTo(serving);
  expect(await new RawCall(session).announce(2 ** 20 + 1).ended).toEqual({
    code: status.RESOURCE_EXHAUSTED,
    details: 'the message is larger than 1048576 bytes: send fewer rows at once, or raise --body-max',
  });
  expect(await new RawCall(session, 'ModelReady').announce(2 ** 20).ended).toEqual({
    code: status.RESOURCE_EXHAUSTED,
    details: 'the message is 1048576 bytes, and 16384 are enough for what this method takes',
  });
  // The connection is not to blame.
  const message = toBinary(inference.ModelInferRequestSchema, request());
  const next = new RawCall(session).announce(message.length);
  next.stream.end(message);
  expect(await next.ended).toMatchObject({ code: status.OK });
  await nothingIsKept(serving);
});

test('a connection too many hears why, and is taken when another has gone', async () => {
  const serving = await endpoint({ limits: { connectionsMax: 2 } });
  const [first, second, third] = [clientOf(serving), clientOf(serving), clientOf(serving)];
  expect([await infer(first), await infer(second)]).toEqual(['OK', 'OK']);
  const refused = await infer(third);
  expect(refused).toMatchObject({
    code: status.UNAVAILABLE,
    details: expect.stringMatching(
      /^this server has as many connections as it takes, 2, and refuses that of 127\.0\.0\.1:\d+: share connections, or close those that are idle, and try again later$/,
    ) as string,
  });
  expect(await infer(first)).toBe('OK');
  second.close();
  await until('a place', 10_000, async () => (await infer(third)) === 'OK');
});

test('whoever opens connections without end gets no more than are kept to say no', async () => {
  const serving = await endpoint({ limits: { connectionsMax: 2 } });
  const sockets = Array.from({ length: 60 }, () => connect(serving.grpcPort!, '127.0.0.1').on('error', () => {}));
  closers.push(() => sockets.forEach((socket) => socket.destroy()));
  await until('most to be cut', 10_000, () => sockets.filter(({ closed }) => closed).length >= 60 - 18);
  expect((await doorOf(serving)).connections).toBeLessThanOrEqual(18);
  for (const socket of sockets) socket.destroy();
  const client = clientOf(serving);
  await until('a place', 10_000, async () => (await infer(client)) === 'OK');
});

test('a connection has so many calls at once; a client with more sends them one after the other', async () => {
  const serving = await endpoint({ limits: { streamsMax: 4 } });
  const session = sessionTo(serving);
  await isLive(clientOf(serving));
  await until('the settings', 10_000, () => session.remoteSettings?.maxConcurrentStreams === 4);
  const client = clientOf(serving);
  expect(await Promise.all(Array.from({ length: 100 }, () => infer(client)))).toEqual(Array(100).fill('OK'));
});

test('who does not go on sending, or does not take the answer, is not waited for', async () => {
  const serving = await endpoint({ limits: { requestMs: 300 } });
  const half = new RawCall(sessionTo(serving)).announce(1000);
  half.stream.write(Buffer.alloc(10));
  expect(await half.ended).toEqual({
    code: status.DEADLINE_EXCEEDED,
    details: 'the message was not whole after 300 ms: send it faster, or fewer rows at once',
  });
  const deaf = new RawCall(sessionTo(serving, { initialWindowSize: 0 }));
  const message = toBinary(inference.ModelInferRequestSchema, request());
  deaf.announce(message.length).stream.end(message);
  await new Promise((resolve) => deaf.stream.once('close', resolve));
  expect(deaf.stream.rstCode).toBe(8);
  await nothingIsKept(serving);
});
