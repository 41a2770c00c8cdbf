import { create, fromBinary } from '@bufbuild/protobuf';
import { encodings, gridFor, mlp, seeded, writeModel } from '@commonweight/core';
import {
  Encoding,
  HelloSchema,
  ManifestSchema,
  UpdateHeaderSchema,
  updateId,
  type Assignment,
} from '@commonweight/proto';
import { sha256 } from '@commonweight/client-sdk';
import { rmSync } from 'node:fs';
import { openAgentLink, type AgentLink, type OpenSession } from '../../edge-agent/src/link/agent-link.ts';
import { adminOf } from '../support/admin.ts';
import { freePort } from '../support/free-port.ts';
import { commonweight, listening, natsServer, temporaryFolder, until, type Program } from '../support/processes.ts';

const AGENTS = 10;
const ROUNDS = 320;
const WARM_UP = 20;
/** 10,187 parameters. */
const MODEL = { inputs: 784, hidden: [12, 33], outputs: 10, seed: 1 };
const GRID = { valueMaxExponent: 3, weightMax: 10_000 };

/**
 * A round on loopback without training, the commit to disk included: from a cohort's first assignment to the next cohort's
 * first assignment. The coordinator is a process of its own; the ten agents share another and send an update that was made
 * beforehand. What each agent does on a machine of its own, training and checking signatures, is left out.
 */
export async function run(): Promise<Record<string, number | null>> {
  const folder = temporaryFolder('bench-round');
  const [grpcPort, httpPort, natsPort] = [await freePort(), await freePort(), await freePort()];
  const programs: Program[] = [];
  try {
    const nats = natsServer(natsPort);
    programs.push(nats);
    await listening(natsPort, nats);
    const urls = { grpc: `grpc://127.0.0.1:${grpcPort}`, nats: `nats://127.0.0.1:${natsPort}` };
    const ports = ['--grpc', `127.0.0.1:${grpcPort}`, '--http', `127.0.0.1:${httpPort}`, '--nats', urls.nats];
    const coordinator = commonweight('coordinator', '--data', folder, ...ports);
    programs.push(coordinator);
    await listening(grpcPort, coordinator);
    const grpc = await roundsOver('grpc', urls.grpc, grpcPort, coordinator);
    const overNats = await roundsOver('nats', urls.nats, grpcPort, coordinator);
    return {
      p50_ms_grpc: percentile(grpc, 0.5),
      p99_ms_grpc: percentile(grpc, 0.99),
      p50_ms_nats: percentile(overNats, 0.5),
      p99_ms_nats: percentile(overNats, 0.99),
    };
  } finally {
    for (const program of programs.reverse()) await program.end('SIGTERM');
    rmSync(folder, { recursive: true, force: true });
  }
}

async function roundsOver(kind: string, url: string, grpcPort: number, coordinator: Program): Promise<number[]> {
  const admin = adminOf(grpcPort);
  const links: AgentLink[] = [];
  const times: number[] = [];
  try {
    await admin.importModel(kind, writeModel(mlp(MODEL)));
    await admin.createTask(kind, {
      model: kind,
      plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 },
      encoding: 'mxint8',
      cohort: { min: AGENTS, max: AGENTS },
      rounds: ROUNDS,
      ...GRID,
    });
    const begin = new Map<bigint, number>();
    for (let i = 0; i < AGENTS; i++) {
      links.push(
        replaying(url, `${kind}-${i}`, kind, ({ round }) => {
          if (!begin.has(round)) begin.set(round, performance.now());
        }),
      );
    }
    await admin.startTask(kind);
    await until(
      `${ROUNDS} rounds over ${kind}`,
      120_000,
      async () => (await admin.task(kind)).state === 'finished',
      coordinator.output,
    );
    const starts = [...begin.values()];
    for (let i = WARM_UP + 1; i < starts.length; i++) times.push(starts[i]! - starts[i - 1]!);
    return times;
  } finally {
    for (const link of links) await link.close();
    admin.close();
  }
}

/** An agent that answers each assignment at once with the same update. */
function replaying(url: string, agentId: string, task: string, onAssignment: (one: Assignment) => void): AgentLink {
  const link = openAgentLink(url, agentId);
  const hello = create(HelloSchema, { agentId, sessionId: agentId, software: '0.1.0', task, examples: 100n });
  let payload: Uint8Array | undefined;
  const session: OpenSession = link.openSession(hello, {
    onClosed: () => {},
    onMessage: ({ message }) => {
      if (message.case === 'welcome') session.send({ case: 'ready', value: {} });
      if (message.case === 'assignment') {
        onAssignment(message.value);
        void answer(message.value);
      }
    },
  });
  return link;

  async function answer({ base, round, grid }: Assignment): Promise<void> {
    if (base === undefined || grid === undefined) throw new Error('an assignment has a base and a grid');
    const { version, artifacts } = fromBinary(ManifestSchema, base.manifest);
    const length = Number(artifacts.find(({ role }) => role === 'weights')!.size) / 4;
    payload ??= updateOf(length);
    const payloadDigest = sha256(payload);
    const id = updateId({ agentId, task, round: Number(round), baseVersion: Number(version), payloadDigest }, sha256);
    const header = create(UpdateHeaderSchema, {
      updateId: id,
      agentId,
      task,
      round,
      baseVersion: version,
      encoding: Encoding.MXINT8,
      weight: 100n,
      payloadDigest,
      payloadSize: BigInt(payload.length),
    });
    await link.submit(header, payload, 0);
  }
}

function updateOf(length: number): Uint8Array {
  const random = seeded(1);
  const delta = Float32Array.from({ length }, () => random.normal() * 1e-6);
  return encodings.mxint8.encode(delta, gridFor({ ...GRID, cohortMax: AGENTS }), random);
}

function percentile(times: readonly number[], q: number): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}
