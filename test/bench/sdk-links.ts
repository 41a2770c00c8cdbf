import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { connect as connectTcp, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { create, fromBinary } from '@bufbuild/protobuf';
import { nodePlatform, sha256 } from '@commonweight/client-sdk';
import { mlp, weightsToBytes, writeModel } from '@commonweight/core';
import { HelloSchema, ManifestSchema, UpdateHeaderSchema, updateId, type Assignment } from '@commonweight/proto';
import { openAgentLink, type AgentLink } from '../../edge-agent/src/link/agent-link.ts';
import { adminOf } from '../support/admin.ts';
import { freePort } from '../support/free-port.ts';
import {
  commonweight,
  listening,
  natsServer,
  sourceProgram,
  temporaryFolder,
  until,
  type Program,
} from '../support/processes.ts';

/** Each way; the round trip is twice that. */
const LATENCY_MS = 20;
/** 23,749,746 parameters: 95 MB. */
const FULL = { inputs: 784, hidden: [4096, 5000], outputs: 10, seed: 1 };
const QUICK = { inputs: 784, hidden: [1000, 1000], outputs: 10, seed: 1 };
const WAIT_MS = 120_000;

/**
 * How fast weights come to an app, and an update to the coordinator, over links with a round trip of 40 ms. Coordinator, link and this end are
 * a process each. The baseline is the same bytes over the same link by TCP alone.
 */
export async function overSlowLinks(quick: boolean): Promise<Record<string, number>> {
  const folder = temporaryFolder('bench-sdk-links');
  const programs: Program[] = [];
  const linkTo = async (port: number): Promise<number> => {
    const link = sourceProgram('test/support/slow-link.ts', String(port), String(LATENCY_MS));
    programs.push(link);
    await until('a link', WAIT_MS, () => /^port \d+/m.test(link.output()), link.output);
    return Number(/^port (\d+)/m.exec(link.output())?.[1]);
  };
  try {
    const [grpc, http, natsPort] = [await freePort(), await freePort(), await freePort()];
    const nats = natsServer(natsPort);
    programs.push(nats);
    await listening(natsPort, nats);
    const at = ['--grpc', `127.0.0.1:${grpc}`, '--http', `127.0.0.1:${http}`, '--nats', `nats://127.0.0.1:${natsPort}`];
    const coordinator = commonweight('coordinator', '--data', join(folder, 'data'), ...at);
    programs.push(coordinator);
    await listening(grpc, coordinator);
    const admin = adminOf(grpc);
    const onnx = writeModel(mlp(quick ? QUICK : FULL));
    await admin.importModel('large', onnx);
    const links = {
      grpc: `grpc://127.0.0.1:${await linkTo(grpc)}`,
      nats: `nats://127.0.0.1:${await linkTo(natsPort)}`,
      http: `http://127.0.0.1:${await linkTo(http)}`,
    };
    const figures: Record<string, number> = {};
    const rates = new Map<string, number>();
    for (const [kind, url] of Object.entries(links)) rates.set(`download ${kind}`, await download(url));
    for (const kind of ['grpc', 'nats'] as const) {
      const task = `upload-${kind}`;
      // One of its own, for the round on the other stays open.
      await admin.importModel(task, onnx);
      await admin.createTask(task, {
        model: task,
        plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 1 },
        encoding: 'float32',
        cohort: { min: 2, max: 2 },
        rounds: 1,
      });
      rates.set(`upload ${kind}`, await upload(links[kind], task, () => admin.startTask(task)));
    }
    admin.close();
    const plain = await plainTcp(linkTo);
    for (const way of ['download', 'upload']) {
      figures[`${way}_mb_s_40ms`] = rates.get(`${way} grpc`)!;
      figures[`${way}_mb_s_40ms_nats`] = rates.get(`${way} nats`)!;
    }
    figures['download_mb_s_40ms_http'] = rates.get('download http')!;
    figures['tcp_mb_s_40ms'] = plain;
    figures['ratio_upload_tcp'] = rates.get('upload grpc')! / plain;
    figures['ratio_download_tcp'] = rates.get('download grpc')! / plain;
    return figures;
  } finally {
    for (const one of programs.reverse()) await one.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The weights of the newest version. MB/s. */
async function download(url: string): Promise<number> {
  const link = nodePlatform.openLink(url);
  try {
    const { manifest } = await link.getModel('large', 0);
    const weights = fromBinary(ManifestSchema, manifest).artifacts.find(({ role }) => role === 'weights')!;
    const startMs = performance.now();
    const { length } = await link.download(weights.digest, Number(weights.size));
    return length / 1000 / (performance.now() - startMs);
  } finally {
    await link.close();
  }
}

/** An update of float32, until it is accepted: checked and in the sum, of a round that stays open for a second agent. MB/s. */
async function upload(url: string, task: string, start: () => Promise<unknown>): Promise<number> {
  const ids = [`sends-${task}`, `idles-${task}`];
  const links = ids.map((agentId) => openAgentLink(url, agentId));
  try {
    const sessions = ids.map((agentId, i) => openSession(links[i]!, agentId, task));
    for (const { welcomed } of sessions) await welcomed;
    for (const { ready } of sessions) ready();
    await start();
    const { round, base, invitation } = await sessions[0]!.assigned;
    const { version, artifacts } = fromBinary(ManifestSchema, base!.manifest);
    const size = Number(artifacts.find(({ role }) => role === 'weights')!.size);
    const payload = weightsToBytes(new Float32Array(size / 4).fill(0.001));
    const payloadDigest = sha256(payload);
    const agentId = ids[0]!;
    const identity = { agentId, task, round: Number(round), baseVersion: Number(version), payloadDigest };
    const header = create(UpdateHeaderSchema, {
      ...{ updateId: updateId(identity, sha256), agentId, task, round, baseVersion: version, encoding: 1 },
      ...{ weight: 1n, payloadDigest, payloadSize: BigInt(size), invitation },
    });
    const startMs = performance.now();
    const answer = await links[0]!.submit(header, payload, 0);
    const tookMs = performance.now() - startMs;
    if (!answer.accepted) throw new Error(`the update was not accepted: ${JSON.stringify(answer.receipt ?? {})}`);
    return size / 1000 / tookMs;
  } finally {
    for (const link of links) await link.close();
  }
}

function openSession(link: AgentLink, agentId: string, task: string) {
  const hello = create(HelloSchema, { agentId, sessionId: agentId, software: '0.1.0', task, examples: 1n });
  const assigned = Promise.withResolvers<Assignment>();
  const welcomed = Promise.withResolvers<void>();
  // The one that idles hears no more of it.
  assigned.promise.catch(() => {});
  const session = link.openSession(hello, {
    onMessage: ({ message }) => {
      if (message.case === 'welcome') welcomed.resolve();
      if (message.case === 'assignment') assigned.resolve(message.value);
    },
    onClosed: (reason) => {
      welcomed.reject(new Error(reason));
      assigned.reject(new Error(reason));
    },
  });
  const ready = (): void => session.send({ case: 'ready', value: {} });
  return { welcomed: welcomed.promise, assigned: assigned.promise, ready };
}

/** As many bytes as one socket takes to another. MB/s. */
async function plainTcp(linkTo: (port: number) => Promise<number>): Promise<number> {
  const bytes = randomBytes(95_000_000);
  const server = createServer((socket) => {
    let held = 0;
    socket.on('data', (data) => (held += data.length) === bytes.length && socket.end('.'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const port = await linkTo((server.address() as AddressInfo).port);
    const startMs = performance.now();
    await new Promise<void>((resolve, reject) => {
      const socket = connectTcp(port, '127.0.0.1', () => void socket.write(bytes));
      socket.once('data', () => resolve()).once('error', reject);
    });
    return bytes.length / 1000 / (performance.now() - startMs);
  } finally {
    server.close();
  }
}
