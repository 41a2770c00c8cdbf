import { connect } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import http2 from 'node:http2';
import { create, fromBinary, toBinary, type DescService } from '@bufbuild/protobuf';
import {
  agentInboxSubject,
  AgentService,
  agentSubject,
  CHUNK_BYTES_MAX,
  ContributionListSchema,
  GetUpdateStatusRequestSchema,
  grpcMethods,
  HelloSchema,
  ManifestSchema,
  ModelService,
  ModelServiceDownloadRequestSchema,
  SessionRequestSchema,
  SessionResponseSchema,
  SubmitUpdateRequestSchema,
  UpdateHeaderSchema,
  type SessionRequest,
  type SessionResponse,
  type SignedManifest,
  type SubmitUpdateRequest,
  type SubmitUpdateResponse,
} from '@commonweight/proto';
import { status } from '@grpc/grpc-js';
import { connect as connectNats } from '@nats-io/transport-node';
import { runAgent, type AgentEvent } from '@commonweight/edge-agent';
import { Backoff, openGrpcChannel, openNats, sha256, type TransportError } from '@commonweight/client-sdk';
import { fedAvg2nn, logistic, mlp, writeModel } from '@commonweight/core';
import { afterEach, describe, expect, test } from 'vitest';
import {
  openCoordinator,
  startCoordinator,
  type CoordinatorService,
  type RunningCoordinator,
} from '@commonweight/coordinator';
import { GrpcModelLink } from '../../client-sdk/src/connection/grpc-model-link.ts';
import { NatsModelLink } from '../../client-sdk/src/connection/nats-model-link.ts';
import { serveGrpc } from '../../coordinator/src/edges/grpc/server.ts';
import { serveNats } from '../../coordinator/src/edges/nats/server.ts';
import { openAgentLink, type AgentLink } from '../../edge-agent/src/link/agent-link.ts';
import { serveHttp } from '../../coordinator/src/edges/http/server.ts';
import { failureOf, grpcClient, type GrpcClient } from '../support/grpc.ts';
import { invited, startTraining, TestAgent, updateOf } from '../support/training.ts';
import { freePort } from '../support/free-port.ts';
import { NatsCluster } from '../support/nats-cluster.ts';
import { NatsRelay } from '../support/nats-relay.ts';
import { commonweight, listening, natsServer, temporaryFolder, until, type Program } from '../support/processes.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

async function proxyTo(port: number): Promise<TcpProxy> {
  const proxy = await TcpProxy.open(port);
  closers.push(() => proxy.close());
  return proxy;
}

/** A real coordinator with a model, over gRPC. */
async function coordinatorWithModel(): Promise<RunningCoordinator> {
  const coordinator = await startCoordinator({
    dataDir: temporaryFolder('links'),
    grpc: '127.0.0.1:0',
    http: '127.0.0.1:0',
  });
  closers.push(() => coordinator.close());
  await coordinator.service.importModel('flowers', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
  return coordinator;
}

async function startedNats(): Promise<{ port: number; program: Program }> {
  const port = await freePort();
  const program = natsServer(port);
  closers.push(() => program.end('SIGKILL'));
  await listening(port, program);
  return { port, program };
}

describe('connect timeout', () => {
  test('over gRPC: who takes connections and says nothing is given up after 2 s, and the next call connects anew', async () => {
    const proxy = await proxyTo((await coordinatorWithModel()).grpcPort);
    proxy.swallowed.add('up').add('down');
    const channel = openGrpcChannel(`grpc://127.0.0.1:${proxy.port}`);
    closers.push(() => channel.close());
    const ask = () => channel.unary(ModelService.method.getModel, { model: 'flowers' }, { deadlineMs: 600_000 });
    await expect(ask()).rejects.toMatchObject({
      code: 'unavailable',
      message: `cannot reach grpc://127.0.0.1:${proxy.port}: no answer within 2000 ms`,
    });
    await until('the connection to be closed', 10_000, () => proxy.open === 0);
    proxy.swallowed.clear();
    const answers = (): Promise<boolean> => ask().then(Boolean, () => false);
    await until('an answer', 10_000, answers);
    // Nor does it hang after a server that was away: what comes back may say nothing either.
    proxy.refuses = true;
    proxy.reset();
    await until('the link to be away', 10_000, async () => !(await answers()));
    proxy.swallowed.add('down');
    proxy.refuses = false;
    const { taken } = proxy;
    await until('connections that are given up', 20_000, async () => {
      await answers();
      return proxy.taken >= taken + 2;
    });
    proxy.swallowed.clear();
    await until('an answer', 20_000, answers);
  });
});

describe('reconnect', () => {
  // Beyond the ten tries after which the NATS client's own limit would close it for good.
  const TRIES = 15;

  /** Short waits, and every bound that was drawn under. */
  const quick = () => {
    const drawn: number[] = [];
    const random = (): number => (drawn.push(drawn.length), (drawn.length * 0.37) % 1);
    return { drawn, newBackoff: () => new Backoff({ baseMs: 4, maxMs: 30, random }) };
  };

  test.each(['grpc', 'nats'])(
    'over %s: tries go on without end, each after a wait that is drawn anew, and the newest release is heard then',
    async (kind) => {
      const { port } = await startedNats();
      const coordinator = await coordinatorOverBoth(`nats://127.0.0.1:${port}`);
      await coordinator.service.importModel('flowers', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
      const proxy = await proxyTo(kind === 'grpc' ? coordinator.grpcPort : port);
      const url = `${kind}://127.0.0.1:${proxy.port}`;
      const { drawn, newBackoff } = quick();
      proxy.refuses = true;
      const link =
        kind === 'grpc'
          ? new GrpcModelLink(openGrpcChannel(url), newBackoff)
          : new NatsModelLink(url, { sha256, open: openNats, newBackoff });
      closers.push(() => link.close());
      let [heard, downs] = [0, 0];
      link.watchModel(
        'flowers',
        () => (heard += 1),
        () => (downs += 1),
      );
      await until('tries', 20_000, () => downs >= TRIES);
      proxy.refuses = false;
      await until('the release', 20_000, () => heard > 0);
      const before = { heard, drawn: drawn.length, refused: proxy.refused };
      proxy.refuses = true;
      proxy.reset();
      await until('tries after a break', 20_000, () => drawn.length >= before.drawn + TRIES);
      expect(proxy.refused).toBeGreaterThan(before.refused);
      proxy.refuses = false;
      await until('the release again', 20_000, () => heard > before.heard);
    },
  );
});

describe('calls that are half open', () => {
  const PATIENCE_MS = 500;

  /** A coordinator in this process that waits for half a second only, with a running task, behind a link. */
  async function impatient() {
    const service = await openCoordinator({ dataDir: temporaryFolder('patience') });
    closers.push(() => service.close());
    const edge = await serveGrpc(service, { host: '127.0.0.1', port: 0, patienceMs: PATIENCE_MS });
    closers.push(() => edge.close());
    const proxy = await proxyTo(edge.port);
    const clientOf = (descriptor: DescService): GrpcClient => {
      const client = grpcClient(descriptor, proxy.port);
      closers.push(() => client.close());
      return client;
    };
    await startTraining(service, { cohort: { min: 1, max: 1 }, rounds: 0 });
    return { service, proxy, clientOf };
  }

  test('uploads and sessions on which nothing more comes are ended by the hundred, and an honest one goes on', async () => {
    const { service, clientOf } = await impatient();
    const agent = new TestAgent(service, 'a');
    agent.ready();
    const { header, payload } = updateOf('a', await invited([agent]));
    const ends: Promise<{ code: number }>[] = [];
    for (let i = 0; i < 60; i++) {
      // One that says nothing, one that stops in the middle, and a session without a word.
      const [silent, begun] = [0, 1].map(() => {
        const ended = Promise.withResolvers<{ code: number }>();
        const call = clientOf(AgentService).writes<SubmitUpdateRequest, unknown>('submitUpdate', (error) =>
          ended.resolve(error ?? { code: 0 }),
        );
        call.on('error', () => {});
        ends.push(ended.promise);
        return call;
      });
      silent!.on('error', () => {});
      begun!.write(create(SubmitUpdateRequestSchema, { header, data: payload.subarray(0, 3) }));
      const session = clientOf(AgentService).writes('session');
      ends.push(failureOf(session));
    }
    const codes = (await Promise.all(ends)).map(({ code }) => code);
    expect(new Set(codes)).toEqual(new Set([status.DEADLINE_EXCEEDED]));
    expect(await agent.submit({ header, payload })).toMatchObject({ accepted: true });
  });

  test('an upload that trickles in below the least rate is ended; one that takes longer as a whole is not', async () => {
    const { service, proxy, clientOf } = await impatient();
    const agent = new TestAgent(service, 'a');
    agent.ready();
    const grid = await invited([agent]);
    const { header, payload } = updateOf('a', grid);
    const upload = (pieces: number): { call: { cancel(): void }; answer: Promise<SubmitUpdateResponse> } => {
      const { promise, resolve, reject } = Promise.withResolvers<SubmitUpdateResponse>();
      const call = clientOf(AgentService).writes<SubmitUpdateRequest, SubmitUpdateResponse>(
        'submitUpdate',
        (error, answer) => (error === null ? resolve(answer) : reject(error)),
      );
      call.on('error', () => {});
      const size = Math.ceil(payload.length / pieces);
      for (let offset = 0; offset < payload.length; offset += size) {
        const data = payload.subarray(offset, offset + size);
        call.write(create(SubmitUpdateRequestSchema, { header, offset: BigInt(offset), data }));
      }
      call.end();
      return { call, answer: promise };
    };
    // The first call pays for the connection.
    await clientOf(AgentService).unary('getUpdateStatus', create(GetUpdateStatusRequestSchema, {}));
    proxy.weather = { bytesPerSecond: 60, pieceBytesMax: 10 };
    const slow = upload(1);
    await expect(slow.answer).rejects.toMatchObject({
      code: expect.toBeOneOf([status.DEADLINE_EXCEEDED, status.UNAVAILABLE]),
    });
    proxy.weather = { bytesPerSecond: 1_500, pieceBytesMax: 10 };
    expect(await upload(8).answer).toMatchObject({ accepted: true });
  });

  test('a reader that takes nothing is cut', async () => {
    const { service, proxy } = await impatient();
    // 800 kB, of which the 64 kB of an untouched window go out.
    const { manifest } = await service.importModel('large', writeModel(fedAvg2nn(1)));
    const { digest } = fromBinary(ManifestSchema, manifest).artifacts.find(({ role }) => role === 'weights')!;
    const request = toBinary(ModelServiceDownloadRequestSchema, create(ModelServiceDownloadRequestSchema, { digest }));
    const session = http2.connect(`http://127.0.0.1:${proxy.port}`);
    closers.push(() => session.destroy());
    const { path } = grpcMethods(ModelService)['download']!;
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const head = Buffer.alloc(5);
    head.writeUInt32BE(request.length, 1);
    stream.on('error', () => {});
    stream.end(Buffer.concat([head, request]));
    await until('the stream to be cut', 10_000, () => stream.rstCode === http2.constants.NGHTTP2_CANCEL);
  });
});

describe('HTTP connections that are half open', () => {
  test.each([
    ['says nothing', ''],
    ['stops in the middle of a header', 'GET /healthz HTTP/1.1\r\nHost: 127'],
    ['stops in the middle of a body', 'GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nabc'],
  ])('who %s is cut', async (_, words) => {
    const service = await openCoordinator({ dataDir: temporaryFolder('patience') });
    closers.push(() => service.close());
    const edge = await serveHttp(service, { host: '127.0.0.1', port: 0, patienceMs: 300 });
    closers.push(() => edge.close());
    const sockets = Array.from({ length: 50 }, () => {
      const socket = connect(edge.port, '127.0.0.1');
      socket.on('error', () => {}).on('data', () => {});
      socket.write(words);
      closers.push(() => socket.destroy());
      return socket;
    });
    await until('all to be cut', 10_000, () => sockets.every((socket) => socket.readableEnded || socket.destroyed));
    expect((await fetch(`http://127.0.0.1:${edge.port}/healthz`)).ok).toBe(true);
  });
});

describe('while the NATS server is away', () => {
  test('a coordinator keeps nothing that it has to say; what matters is asked for again', async () => {
    const { port } = await startedNats();
    const proxy = await proxyTo(port);
    const service = await openCoordinator({ dataDir: temporaryFolder('away') });
    closers.push(() => service.close());
    let announce = (_model: string, _release: SignedManifest): void => {};
    const announcing: CoordinatorService = Object.create(service, {
      watchReleases: {
        value: (tell: typeof announce) => {
          announce = tell;
          return () => {};
        },
      },
      watchChannels: { value: service.watchChannels.bind(service) },
    });
    const edge = await serveNats(announcing, { url: `nats://127.0.0.1:${proxy.port}` });
    closers.push(() => edge.close());
    const release = await service.importModel('flowers', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
    proxy.refuses = true;
    proxy.reset();
    await until('a try to reconnect', 5000, () => proxy.refused > 0);
    const held = (): number => {
      collectGarbage();
      const { arrayBuffers, external, heapUsed } = process.memoryUsage();
      return arrayBuffers + external + heapUsed;
    };
    const before = held();
    for (let i = 0; i < 100_000; i++) announce('flowers', release);
    // Garbage of before is let go bit by bit.
    await expect.poll(() => held() - before).toBeLessThan(40_000_000);
    proxy.refuses = false;
    const client = await connectNats({ servers: `127.0.0.1:${port}` });
    closers.push(() => client.close());
    let heard = 0;
    client.subscribe('cw.v1.release.*', { callback: () => void (heard += 1) });
    await until('a release after the reconnect', 10_000, () => {
      announce('flowers', release);
      return heard > 0;
    });
  });

  test('an agent keeps no chunk and no word on its way; its requests fail at once', async () => {
    const { port } = await startedNats();
    const proxy = await proxyTo(port);
    const link = openAgentLink(`nats://127.0.0.1:${proxy.port}`, 'a');
    closers.push(() => link.close());
    // Nobody answers, but the connection is there.
    await expect(link.updateStatus(new Uint8Array(32))).rejects.toMatchObject({ code: 'unavailable' });
    proxy.refuses = true;
    proxy.reset();
    // Whether it has noticed yet or not, a session ends by that.
    const noticed = Promise.withResolvers<string>();
    link.openSession(create(HelloSchema, { agentId: 'a', sessionId: 'first' }), {
      onMessage: () => {},
      onClosed: noticed.resolve,
    });
    expect(await noticed.promise).toMatch(/away/);
    const payload = new Uint8Array(CHUNK_BYTES_MAX);
    const header = create(UpdateHeaderSchema, { agentId: 'a', payloadSize: BigInt(payload.length) });
    for (let i = 0; i < 20; i++) {
      await expect(link.submit(header, payload, 0)).rejects.toMatchObject({ code: 'unavailable' });
      const ended = Promise.withResolvers<string>();
      link.openSession(create(HelloSchema, { agentId: 'a', sessionId: `${i}` }), {
        onMessage: () => {},
        onClosed: ended.resolve,
      });
      expect(await ended.promise).toMatch(/away/);
    }
    proxy.refuses = false;
    await until(
      'the link to be back',
      10_000,
      () =>
        link
          .updateStatus(new Uint8Array(32))
          .catch((error: TransportError) => /nobody answers/.test(error.message) && proxy.open > 0) as Promise<boolean>,
    );
  });

  test('bytes that are no message do not end an agent', async () => {
    const { port } = await startedNats();
    const client = await connectNats({ servers: `127.0.0.1:${port}` });
    closers.push(() => client.close());
    const link = openAgentLink(`nats://127.0.0.1:${port}`, 'a');
    closers.push(() => link.close());
    const heard: (string | undefined)[] = [];
    const hellos: unknown[] = [];
    client.subscribe(agentSubject('a', 'session'), { callback: (_, message) => void hellos.push(message) });
    await client.flush();
    link.openSession(create(HelloSchema, { agentId: 'a', sessionId: 's' }), {
      onMessage: ({ message }) => heard.push(message.case),
      onClosed: () => {},
    });
    await until('hello', 5000, () => hellos.length > 0);
    client.publish(agentInboxSubject('a'), Uint8Array.of(255, 255, 255));
    const welcome = create(SessionResponseSchema, { sessionId: 's', message: { case: 'welcome', value: {} } });
    client.publish(agentInboxSubject('a'), toBinary(SessionResponseSchema, welcome));
    await until('the next message', 5000, () => heard.length > 0);
    expect(heard).toEqual(['welcome']);
  });
});

describe('return times', () => {
  const hello = (agentId: string) => create(HelloSchema, { agentId, sessionId: agentId, software: '0.1.0' });

  /** How a session over a link ends. */
  const endOf = (link: AgentLink, agentId: string): Promise<{ why: string; afterMs: number }> =>
    new Promise((resolve) => {
      link.openSession(hello(agentId), {
        onMessage: () => {},
        onClosed: (why, afterMs = 0) => resolve({ why, afterMs }),
      });
    });

  async function fullCoordinator(sessionsMax: number) {
    const { port } = await startedNats();
    const service = await openCoordinator({ dataDir: temporaryFolder('full'), sessionsMax });
    closers.push(() => service.close());
    const grpc = await serveGrpc(service, { host: '127.0.0.1', port: 0 });
    closers.push(() => grpc.close());
    const nats = await serveNats(service, { url: `nats://127.0.0.1:${port}` });
    closers.push(() => nats.close());
    const linkOf = (kind: string, agentId: string): AgentLink => {
      const link = openAgentLink(
        kind === 'grpc' ? `grpc://127.0.0.1:${grpc.port}` : `nats://127.0.0.1:${port}`,
        agentId,
      );
      closers.push(() => link.close());
      return link;
    };
    return { service, edges: { grpc, nats }, linkOf };
  }

  test.each(['grpc', 'nats'])(
    'over %s: a coordinator with all its sessions taken says when to come back',
    async (kind) => {
      const { service, linkOf } = await fullCoordinator(1);
      const first = new TestAgent(service, 'first');
      expect(first.messages.length).toBe(1);
      const { why, afterMs } = await endOf(linkOf(kind, 'second'), 'second');
      expect(why).toContain('as many agents as it takes');
      expect(afterMs).toBeGreaterThan(0);
      // A newer session of one that is there takes its place.
      const again = new TestAgent(service, 'first');
      expect(again.messages[0]?.message.case).toBe('welcome');
    },
  );

  test('an agent comes back when it was told to, and is taken once there is room', async () => {
    const { port } = await startedNats();
    const coordinator = await coordinatorOverBoth(`nats://127.0.0.1:${port}`, 1);
    const other = new TestAgent(coordinator.service, 'other');
    const events = startAgents([`grpc://127.0.0.1:${coordinator.grpcPort}`], 'digits');
    await until('the agent to be sent away', 20_000, () => count(events, 'away') > 0);
    const [sent] = events.filter((event) => event.type === 'away');
    expect(sent?.why).toContain('as many agents as it takes');
    // No sooner than half a second, whatever the agent's own wait would have been.
    expect(sent?.returnMs).toBeGreaterThanOrEqual(500);
    other.close();
    await until('the agent to be taken', 20_000, () => count(events, 'connected') > 0);
  });

  test.each(['grpc', 'nats'] as const)('over %s: a coordinator that drains says when to come back', async (kind) => {
    const { service, edges, linkOf } = await fullCoordinator(10);
    const end = endOf(linkOf(kind, 'a'), 'a');
    await until('the session', 5000, async () => (await service.listAgents()).some(({ online }) => online));
    await edges[kind].close();
    const { why, afterMs } = await end;
    expect(why).toBe('the coordinator is stopping');
    expect(afterMs).toBeGreaterThan(0);
  });
});

/** Agents of this process, as many as a round needs, and what they said. */
function startAgents(urls: readonly string[], task: string): AgentEvent[] {
  const events: AgentEvent[] = [];
  const stop = new AbortController();
  const running = urls.map((coordinator, i) =>
    runAgent({
      coordinator,
      data: `mnist?partition=${i}/200`,
      agentId: `agent-${i}`,
      dataDir: temporaryFolder(`agent-${i}`),
      task,
      signal: stop.signal,
      onEvent: (event) => events.push(event),
    }),
  );
  closers.push(async () => {
    stop.abort();
    await Promise.all(running);
  });
  return events;
}

const count = (events: readonly AgentEvent[], type: AgentEvent['type']): number =>
  events.filter((event) => event.type === type).length;

async function startDigits(service: CoordinatorService, agents: number, rounds: number): Promise<void> {
  await service.importModel('digits', writeModel(mlp({ inputs: 784, hidden: [16], outputs: 10, seed: 1 })));
  const plan = { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 };
  await service.createTask(
    'digits',
    JSON.stringify({ model: 'digits', plan, cohort: { min: agents, max: agents }, rounds }),
  );
  await service.startTask('digits');
}

/** How often each update stands in the lists of all versions. */
async function timesCounted(service: CoordinatorService): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const { manifest } of await service.listVersions('digits')) {
    const { contributionsDigest } = fromBinary(ManifestSchema, manifest);
    if (contributionsDigest.length === 0) continue;
    const { data } = await service.readBlob(contributionsDigest, 0, 1 << 20);
    for (const { updateId } of fromBinary(ContributionListSchema, data).accepted) {
      const id = Buffer.from(updateId).toString('hex');
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
  }
  return counts;
}

const isFinished = (service: CoordinatorService) => async (): Promise<boolean> =>
  (await service.getTask('digits')).state === 'finished';

async function coordinatorOverBoth(nats: string, sessionsMax?: number): Promise<RunningCoordinator> {
  const coordinator = await startCoordinator({
    dataDir: temporaryFolder('links'),
    grpc: '127.0.0.1:0',
    http: '127.0.0.1:0',
    nats,
    ...(sessionsMax === undefined ? {} : { sessionsMax }),
  });
  closers.push(() => coordinator.close());
  return coordinator;
}

test('sessions resume: connections that are reset in every round cost no update and no round', async () => {
  const { port } = await startedNats();
  const [rounds, agents] = [2, 2];
  const coordinator = await coordinatorOverBoth(`nats://127.0.0.1:${port}`);
  const { service } = coordinator;
  const links = [await proxyTo(coordinator.grpcPort), await proxyTo(port)];
  const urls = [`grpc://127.0.0.1:${links[0]!.port}`, `nats://127.0.0.1:${links[1]!.port}`];
  const events = startAgents(urls, 'digits');
  await startDigits(service, agents, rounds);
  let resets = 0;
  await until('the task to finish', 45_000, async () => {
    // In the middle of a round: as soon as its first update is on its way.
    if (resets < rounds && count(events, 'trained') > resets * agents) {
      for (const link of links) link.reset();
      resets += 1;
    }
    return isFinished(service)();
  });
  expect(resets).toBe(rounds);
  await until('a session in place of one that was reset', 20_000, () => count(events, 'connected') > agents);
  const counted = await timesCounted(service);
  expect([...counted.values()]).toEqual(Array.from({ length: rounds * agents }, () => 1));
});

test('messages that come twice, late, out of order or not at all: every update counts once', async () => {
  const [near, far] = [await startedNats(), await startedNats()];
  const [rounds, agents] = [4, 2];
  const { service } = await coordinatorOverBoth(`nats://127.0.0.1:${far.port}`);
  const weather = { double: 0.5, delayMsMax: 60 };
  const relay = await NatsRelay.open(`nats://127.0.0.1:${near.port}`, `nats://127.0.0.1:${far.port}`, 1, weather);
  closers.push(() => relay.close());
  startAgents(
    [1, 2].map(() => `nats://127.0.0.1:${near.port}`),
    'digits',
  );
  await startDigits(service, agents, rounds);
  await until('the task to finish', 45_000, isFinished(service));
  expect([...(await timesCounted(service)).values()]).toEqual(Array.from({ length: rounds * agents }, () => 1));
  expect(relay.counts.doubled).toBeGreaterThan(rounds);
});

test('a NATS server that is stopped and goes on, and one that is killed with all it knew: rounds go on', async () => {
  const cluster = await NatsCluster.start();
  closers.push(() => cluster.close());
  const { service } = await coordinatorOverBoth(cluster.url(0));
  const events = startAgents([cluster.url(1), cluster.url(2)], 'digits');
  await startDigits(service, 2, 0);
  const next = async (): Promise<void> => {
    const before = count(events, 'receipt');
    // What was lost with a server is said again after 30 s at the latest, and the round goes on from there.
    await until('more receipts', 90_000, () => count(events, 'receipt') >= before + 2);
  };
  await next();
  cluster.freeze(1);
  // The other one's update waits for the one that cannot be sent.
  await until('an update that waits', 20_000, () => count(events, 'uploaded') > count(events, 'receipt'));
  cluster.thaw(1);
  await next();
  await cluster.kill(2);
  await until('an agent to be alone', 10_000, () => count(events, 'disconnected') > 0);
  await cluster.resume(2);
  await next();
  await Promise.all([0, 1, 2].map((server) => cluster.kill(server)));
  await Promise.all([0, 1, 2].map((server) => cluster.resume(server)));
  await next();
}, 600_000);

describe('SIGTERM', () => {
  const ENDS_WITHIN_MS = 15_000;

  async function coordinatorProcess(nats: string, grpc: number): Promise<Program> {
    const ports = ['--grpc', `127.0.0.1:${grpc}`, '--http', `127.0.0.1:${await freePort()}`];
    const program = commonweight('coordinator', '--data', temporaryFolder('drain'), ...ports, '--nats', nats);
    closers.push(async () => {
      program.child.kill('SIGCONT');
      await program.end('SIGKILL');
    });
    await listening(grpc, program);
    return program;
  }

  test('a coordinator ends in order within its bound, with half-open calls, a stopped NATS server and links that take nothing', async () => {
    const { port, program: nats } = await startedNats();
    const grpc = await freePort();
    const coordinator = await coordinatorProcess(`nats://127.0.0.1:${port}`, grpc);
    const proxy = await proxyTo(grpc);
    const client = grpcClient(AgentService, proxy.port);
    closers.push(() => client.close());
    for (let i = 0; i < 20; i++) {
      const session = client.writes<SessionRequest, SessionResponse>('session');
      session.on('error', () => {});
      session.write(create(SessionRequestSchema, { message: { case: 'hello', value: { agentId: `a${i}` } } }));
      client.writes('submitUpdate', () => {}).on('error', () => {});
      await new Promise((resolve) => session.once('data', resolve));
    }
    proxy.freeze();
    nats.child.kill('SIGSTOP');
    closers.push(() => nats.child.kill('SIGCONT'));
    coordinator.child.kill('SIGTERM');
    await until('the end', ENDS_WITHIN_MS, () => coordinator.child.exitCode !== null, coordinator.output);
    expect(coordinator.child.exitCode).toBe(0);
  });

  test.each(['grpc', 'nats'])(
    'an agent over %s ends in order within its bound, with a coordinator that is stopped',
    async (kind) => {
      const { port } = await startedNats();
      const grpc = await freePort();
      const coordinator = await coordinatorProcess(`nats://127.0.0.1:${port}`, grpc);
      const url = kind === 'grpc' ? `grpc://127.0.0.1:${grpc}` : `nats://127.0.0.1:${port}`;
      const agent = commonweight(
        'agent',
        '--coordinator',
        url,
        '--data',
        'mnist?partition=0/200',
        '--id',
        'a',
        '--dir',
        temporaryFolder('agent'),
      );
      closers.push(() => agent.end('SIGKILL'));
      await until('the agent to connect', 20_000, () => agent.output().includes('connected to'), agent.output);
      coordinator.child.kill('SIGSTOP');
      agent.child.kill('SIGTERM');
      await until('the end', ENDS_WITHIN_MS, () => agent.child.exitCode !== null, agent.output);
      expect(agent.child.exitCode).toBe(0);
    },
  );

  test.each(['grpc', 'nats'])(
    'an agent over %s, whose coordinator stops just after the welcome, does not stay for ever',
    async (kind) => {
      const { port } = await startedNats();
      const grpc = await freePort();
      const coordinator = await coordinatorProcess(`nats://127.0.0.1:${port}`, grpc);
      const url = kind === 'grpc' ? `grpc://127.0.0.1:${grpc}` : `nats://127.0.0.1:${port}`;
      const of = [
        '--coordinator',
        url,
        '--data',
        'mnist?partition=0/200',
        '--id',
        'a',
        '--dir',
        temporaryFolder('agent'),
      ];
      const agent = commonweight('agent', ...of);
      closers.push(() => agent.end('SIGKILL'));
      await until('the agent to connect', 20_000, () => agent.output().includes('connected to'), agent.output);
      coordinator.child.kill('SIGSTOP');
      const isOver = (): boolean => agent.output().includes(`no session with ${url}`);
      await until('the end of the session', 45_000, isOver, agent.output);
      coordinator.child.kill('SIGCONT');
      const isBack = (): boolean => agent.output().split('connected to').length > 2;
      await until('the agent to come back', 45_000, isBack, agent.output);
    },
    120_000,
  );

  test('an agent that was welcomed twice ends', async () => {
    const [near, far] = [await startedNats(), await startedNats()];
    await coordinatorOverBoth(`nats://127.0.0.1:${far.port}`);
    const urls = [near, far].map(({ port }) => `nats://127.0.0.1:${port}`) as [string, string];
    const relay = await NatsRelay.open(...urls, 1, { double: 1 });
    closers.push(() => relay.close());
    const dir = temporaryFolder('agent');
    const args = ['--coordinator', urls[0], '--data', 'mnist?partition=0/200', '--id', 'a', '--dir', dir];
    const agent = commonweight('agent', ...args);
    closers.push(() => agent.end('SIGKILL'));
    await until('two welcomes', 20_000, () => agent.output().split('connected to').length > 2, agent.output);
    agent.child.kill('SIGTERM');
    await until('the end', ENDS_WITHIN_MS, () => agent.child.exitCode !== null, agent.output);
    expect(agent.child.exitCode).toBe(0);
  });
});
