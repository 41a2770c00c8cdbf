// Many agents in one process: real links, real sessions, downloads and uploads; only what they train is drawn and not learned.
// Arguments: one JSON object, see LoadFleet.
import { create, fromBinary } from '@bufbuild/protobuf';
import { downloadBlob, sha256, sleep, TransportError } from '@commonweight/client-sdk';
import { encodeUpdate, seeded } from '@commonweight/core';
import {
  formatFromWire,
  gridFromWire,
  headerDigest,
  HelloSchema,
  ManifestSchema,
  UpdateHeaderSchema,
  updateId,
  type Assignment,
  type UpdateHeader,
} from '@commonweight/proto';
import { openAgentLink, type AgentLink, type OpenSession } from '../../edge-agent/src/link/agent-link.ts';

export interface LoadFleet {
  url: string;
  /** Agents are called by it and a number. */
  name: string;
  agents: number;
  /** Whether each fetches the weights of the versions that it is invited on. */
  downloads: boolean;
}

const { url, name, agents, downloads } = JSON.parse(process.argv[2] ?? '') as LoadFleet;
const HEARTBEAT_MS = 5_000;
const RETRY_MS = 1_000;
/** Sessions that are begun at once. */
const BEGIN_AT_ONCE = 100;

/** What all agents of this process send: by the encoding and the length. */
const payloads = new Map<string, Uint8Array>();

class LoadAgent {
  readonly #id: string;
  readonly #link: AgentLink;
  #session: OpenSession | undefined;
  #sessions = 0;

  constructor(id: string) {
    this.#id = id;
    this.#link = openAgentLink(url, id);
  }

  /** Resolves with the first welcome. */
  open(): Promise<void> {
    return new Promise((resolve) => {
      const sessionId = `${this.#id}-${(this.#sessions += 1)}`;
      const hello = create(HelloSchema, { agentId: this.#id, sessionId, software: '0.1.0', examples: 100n });
      const beat = setInterval(() => session.send({ case: 'heartbeat', value: {} }), HEARTBEAT_MS);
      const session = this.#link.openSession(hello, {
        onMessage: ({ message }) => {
          if (message.case === 'welcome') {
            session.send({ case: 'ready', value: {} });
            resolve();
          }
          if (message.case === 'assignment') void this.#workUntilDone(message.value);
        },
        onClosed: () => {
          clearInterval(beat);
          setTimeout(() => void this.open().then(resolve), RETRY_MS * (0.5 + Math.random()));
        },
      });
      this.#session = session;
    });
  }

  /** A link that breaks costs a try. */
  async #workUntilDone(assignment: Assignment): Promise<void> {
    for (;;) {
      try {
        return await this.#work(assignment);
      } catch (error) {
        if (!(error instanceof TransportError)) throw error;
        await sleep(RETRY_MS * (0.5 + Math.random()));
      }
    }
  }

  async #work(assignment: Assignment): Promise<void> {
    const { task, round, base, grid, encoding } = assignment;
    const format = formatFromWire(assignment);
    if (base === undefined || grid === undefined || format === undefined) throw new Error('an assignment is whole');
    const { version, artifacts } = fromBinary(ManifestSchema, base.manifest);
    const weights = artifacts.find(({ role }) => role === 'weights');
    if (weights === undefined) throw new Error('a version has weights');
    if (downloads)
      await downloadBlob(this.#link.readBlob.bind(this.#link), weights.digest, Number(weights.size), { sha256 });
    const length = Number(weights.size) / 4;
    let payload = payloads.get(`${encoding} ${length}`);
    if (payload === undefined) {
      const random = seeded(name);
      const delta = Float32Array.from({ length }, () => random.normal() * 1e-3);
      payload = encodeUpdate(delta, format, gridFromWire(grid), random);
      payloads.set(`${encoding} ${length}`, payload);
    }
    const payloadDigest = sha256(payload);
    const identity = { agentId: this.#id, task, round: Number(round), baseVersion: Number(version), payloadDigest };
    const header = create(UpdateHeaderSchema, {
      updateId: updateId(identity, sha256),
      agentId: this.#id,
      task,
      round,
      baseVersion: version,
      encoding,
      weight: 100n,
      payloadDigest,
      payloadSize: BigInt(payload.length),
    });
    header.headerDigest = headerDigest(header, sha256);
    await this.#send(header, payload);
    this.#session?.send({ case: 'ready', value: {} });
  }

  /** Again and again, from where it got to, until the update has been taken or has ended. */
  async #send(header: UpdateHeader, payload: Uint8Array): Promise<void> {
    for (;;) {
      try {
        const { offset, receipt } = await this.#link.updateStatus(header.updateId);
        if (receipt !== undefined) return;
        const answer = await this.#link.submit(header, payload, Number(offset));
        if (answer.accepted || answer.receipt !== undefined) return;
      } catch (error) {
        // Too many at once, or a link that broke.
        if (!(error instanceof TransportError)) throw error;
      }
      await sleep(RETRY_MS * (0.5 + Math.random()));
    }
  }
}

for (let from = 0; from < agents; from += BEGIN_AT_ONCE) {
  const some = Array.from(
    { length: Math.min(BEGIN_AT_ONCE, agents - from) },
    (_, i) => new LoadAgent(`${name}-${from + i}`),
  );
  await Promise.all(some.map((agent) => agent.open()));
}
