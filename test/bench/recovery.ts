import { rmSync } from 'node:fs';
import { create } from '@bufbuild/protobuf';
import { sha256 } from '@commonweight/client-sdk';
import { mlp, writeModel } from '@commonweight/core';
import { HelloSchema, updateId, type Assignment } from '@commonweight/proto';
import { openAgentLink, type AgentLink, type OpenSession } from '../../edge-agent/src/link/agent-link.ts';
import { adminOf } from '../support/admin.ts';
import { freePort } from '../support/free-port.ts';
import { commonweight, listening, temporaryFolder, until, type Program } from '../support/processes.ts';

const AGENTS = 1_000;
/** 1,004,810 parameters. */
const MODEL = { inputs: 784, hidden: [1_264], outputs: 10, seed: 1 };
const PARAMETERS = 784 * 1_264 + 1_264 + 1_264 * 10 + 10;
const WAIT_MS = 120_000;
/** How long an agent of this bench waits before it tries again. */
const RETRY_MS = 100;

/**
 * SIGKILL of a coordinator with a round open for 1,000 agents, each of which has an update that waits, and a start on the same folder: until
 * it listens, and until each agent has its session back and knows whether its update is wanted. The baseline is a start on an empty folder.
 */
export async function run(): Promise<Record<string, number | null>> {
  const folder = temporaryFolder('bench-recovery');
  const programs: Program[] = [];
  const port = await freePort();
  const start = async (data: string): Promise<{ program: Program; ms: number }> => {
    const startMs = performance.now();
    const at = ['--grpc', `127.0.0.1:${port}`, '--http', `127.0.0.1:${await freePort()}`];
    const program = commonweight('coordinator', '--data', data, ...at);
    programs.push(program);
    await listening(port, program);
    return { program, ms: performance.now() - startMs };
  };
  const agents: PendingAgent[] = [];
  try {
    const empty = await start(`${folder}/empty`);
    await empty.program.end('SIGTERM');
    const first = await start(`${folder}/data`);
    const admin = adminOf(port);
    await admin.importModel('large', writeModel(mlp(MODEL)));
    await admin.createTask('train', {
      model: 'large',
      plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 },
      cohort: { min: AGENTS, max: AGENTS },
    });
    await admin.startTask('train');
    admin.close();
    for (let i = 0; i < AGENTS; i++) agents.push(new PendingAgent(`grpc://127.0.0.1:${port}`, `agent-${i}`));
    await until('the invitations', WAIT_MS, () => agents.every(({ assignment }) => assignment !== undefined));
    await first.program.end('SIGKILL');
    const startMs = performance.now();
    const again = await start(`${folder}/data`);
    await until('every answer', WAIT_MS, () => agents.every(({ isWanted }) => isWanted));
    const recoveryMs = performance.now() - startMs;
    return {
      parameters: PARAMETERS,
      pending: AGENTS,
      listening_ms: Math.round(again.ms),
      recovery_ms: Math.round(recoveryMs),
      empty_listening_ms: Math.round(empty.ms),
      ratio_empty: again.ms / empty.ms,
    };
  } finally {
    for (const agent of agents) agent.close();
    for (const program of programs) await program.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

/** An agent that trained and holds its update back: it offers it in every session. */
class PendingAgent {
  readonly #link: AgentLink;
  readonly #agentId: string;
  #session: OpenSession | undefined;
  #retry: NodeJS.Timeout | undefined;
  #sessions = 0;
  #isClosed = false;
  assignment: Assignment | undefined;
  isWanted = false;

  constructor(url: string, agentId: string) {
    this.#agentId = agentId;
    this.#link = openAgentLink(url, agentId);
    this.#open();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    this.#session?.close();
    void this.#link.close();
  }

  #open(): void {
    const agentId = this.#agentId;
    const hello = create(HelloSchema, { agentId, sessionId: `${agentId}-${(this.#sessions += 1)}` });
    this.#session = this.#link.openSession(hello, {
      onMessage: ({ message }) => {
        if (message.case === 'welcome') this.#welcomed();
        if (message.case === 'assignment') this.assignment = message.value;
        if (message.case === 'wanted') this.isWanted = true;
      },
      onClosed: () => {
        if (!this.#isClosed) this.#retry = setTimeout(() => this.#open(), RETRY_MS);
      },
    });
  }

  #welcomed(): void {
    if (this.assignment === undefined) return this.#session?.send({ case: 'ready', value: {} });
    const { task } = this.assignment;
    const [round, baseVersion] = [1, 1];
    const payloadDigest = sha256(new TextEncoder().encode(this.#agentId));
    const id = updateId({ agentId: this.#agentId, task, round, baseVersion, payloadDigest }, sha256);
    const value = { updateId: id, task, round: BigInt(round), baseVersion: BigInt(baseVersion), payloadDigest };
    this.#session?.send({ case: 'offer', value: { updates: [value] } });
  }
}
