import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { encodings, type RandomStream } from '@commonweight/core';
import type { CoordinatorService } from '@commonweight/coordinator';
import {
  gridFromWire,
  HelloSchema,
  ManifestSchema,
  ReceiptSchema,
  SessionRequestSchema,
  SessionResponseSchema,
  UpdateHeaderSchema,
  updateId,
  type Assignment,
  type Receipt,
  type SessionRequest,
  type SessionResponse,
  type SignedReceipt,
  type UpdateHeader,
} from '@commonweight/proto';
import { sha256 } from '@commonweight/client-sdk';
import {
  firstState,
  step,
  type SessionEvent,
  type SessionEffect,
  type Work,
} from '../../edge-agent/src/session/session.ts';
import type { SessionMessage } from '../../edge-agent/src/link/agent-link.ts';
import type { Network } from './network.ts';
import type { VirtualTime } from './virtual-time.ts';

/** An update as it lies in the outbox. */
export interface Kept {
  header: UpdateHeader;
  payload: Uint8Array;
}

/** What of an agent outlives its process. */
export interface AgentDisk {
  outbox: Map<string, Kept>;
}

/** Where an agent's messages go, as long as there is a coordinator. */
export interface Edge {
  receive(agentId: string, request: SessionRequest): void;
  service: CoordinatorService;
}

export interface AgentWorld {
  time: VirtualTime;
  network: Network;
  random: RandomStream;
  /** The coordinator that lives now. */
  edge(): Edge | undefined;
  /** An update was put into the outbox. */
  onKept(id: string): void;
  /** The coordinator took an update into its sum. */
  onAccepted(id: string): void;
  onReceipt(receipt: Receipt): void;
  /** Faults to plant. */
  planted: { forgetsAcceptedUpdates?: boolean; sendsBeforeKeeping?: boolean };
}

const HEARTBEAT_MS = 5_000;
const REMIND_MS = 30_000;
const WELCOME_MS = 5_000;
const UPLOAD_TRIES = 5;

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/**
 * One life of an agent: the production session machine between a simulated network, a disk that outlives it and a training that takes
 * time and brings the unit vector of its index.
 */
export class Agent {
  readonly id: string;
  readonly #index: number;
  readonly #world: AgentWorld;
  readonly #disk: AgentDisk;
  readonly #assignments = new Map<string, Assignment>();
  #isAlive = true;
  #state = firstState;
  #sessionId = '';
  #sessions = 0;
  #stopTimers: (() => void)[] = [];

  constructor(id: string, index: number, disk: AgentDisk, world: AgentWorld) {
    this.id = id;
    this.#index = index;
    this.#disk = disk;
    this.#world = world;
    this.#connect();
  }

  /** The process dies; what is under way ends without a trace. */
  kill(): void {
    this.#isAlive = false;
    for (const stop of this.#stopTimers) stop();
  }

  /** Bytes from the coordinator to this agent. */
  deliver(payload: Uint8Array): void {
    const response = fromBinary(SessionResponseSchema, payload);
    if (!this.#isAlive || response.sessionId !== this.#sessionId) return;
    this.#receive(response);
  }

  /** The coordinator says that it was started. */
  deliverStarted(): void {
    if (this.#isAlive) this.#broken();
  }

  #later(ms: number, work: () => void): void {
    this.#world.time.after(ms, () => this.#isAlive && work());
  }

  #connect(): void {
    this.#sessionId = `${this.id}.${this.#world.random.bits()}.${(this.#sessions += 1)}`;
    const session = this.#sessionId;
    const hello = create(HelloSchema, { agentId: this.id, sessionId: session, software: 'simulated', examples: 1n });
    this.#send({ case: 'hello', value: hello });
    this.#later(WELCOME_MS, () => {
      if (this.#sessionId === session && !this.#state.connected) this.#broken();
    });
  }

  #broken(): void {
    for (const stop of this.#stopTimers.splice(0)) stop();
    this.#sessionId = '';
    this.#do({ type: 'Broken' });
    this.#later(this.#world.random.uniform() * 2_000, () => this.#connect());
  }

  #send(message: SessionMessage): void {
    const request = create(SessionRequestSchema, { sessionId: this.#sessionId, message });
    const bytes = toBinary(SessionRequestSchema, request);
    this.#world.network.send(() => this.#world.edge()?.receive(this.id, fromBinary(SessionRequestSchema, bytes)));
  }

  #receive({ message }: SessionResponse): void {
    switch (message.case) {
      case 'welcome': {
        if (this.#state.connected) return;
        const { time } = this.#world;
        this.#stopTimers = [
          time.every(HEARTBEAT_MS, () => this.#send({ case: 'heartbeat', value: {} })),
          time.every(REMIND_MS, () => this.#do({ type: 'Reminded' })),
        ];
        const newest = [...this.#disk.outbox.values()].sort((a, b) => Number(b.header.round - a.header.round))[0];
        return this.#do({ type: 'Welcomed', ...(newest === undefined ? {} : { kept: workOf(newest.header) }) });
      }
      case 'comeBack':
        return this.#broken();
      case 'assignment':
        this.#assignments.set(keyOf(workOf(message.value)), message.value);
        return this.#do({ type: 'Assigned', ...workOf(message.value) });
      case 'receipt':
        return this.#end(message.value);
      case 'wanted': {
        const kept = this.#disk.outbox.get(hex(message.value.updateId));
        if (kept !== undefined) void this.#upload(kept);
        return;
      }
      case undefined:
        return;
    }
  }

  #do(event: SessionEvent): void {
    const { state, effects } = step(this.#state, event);
    this.#state = state;
    for (const effect of effects) this.#perform(effect);
  }

  #perform(effect: SessionEffect): void {
    switch (effect.type) {
      case 'Offer': {
        const updates = [...this.#disk.outbox.values()].map(
          ({ header: { updateId: id, task, round, baseVersion, payloadDigest } }) => ({
            updateId: id,
            task,
            round,
            baseVersion,
            payloadDigest,
          }),
        );
        if (updates.length > 0) this.#send({ case: 'offer', value: { updates } });
        return;
      }
      case 'SayReady':
        return this.#send({ case: 'ready', value: {} });
      case 'Train':
        return this.#later(200 + this.#world.random.uniform() * 5_000, () =>
          this.#do({ type: 'Trained', ...plain(effect) }),
        );
      case 'Keep': {
        const kept = this.#updateOf(effect);
        const id = hex(kept.header.updateId);
        this.#world.onKept(id);
        if (this.#world.planted.sendsBeforeKeeping === true) {
          void this.#upload(kept);
          return this.#later(15_000, () => this.#keep(id, kept, effect));
        }
        return this.#keep(id, kept, effect);
      }
      case 'Upload': {
        const kept = [...this.#disk.outbox.values()].find(({ header }) => keyOf(workOf(header)) === keyOf(effect));
        if (kept !== undefined) void this.#upload(kept);
        return;
      }
      case 'Drop':
        return;
      case 'ReportFailure':
        throw new Error('a simulated training does not fail');
    }
  }

  #keep(id: string, kept: Kept, work: Work): void {
    this.#disk.outbox.set(id, kept);
    this.#do({ type: 'Kept', ...plain(work) });
  }

  /** The update of an assignment: the unit vector of the agent's index, weighing one more than the index. */
  #updateOf(work: Work): Kept {
    const assignment = this.#assignments.get(keyOf(work));
    if (assignment?.base === undefined || assignment.grid === undefined) throw new Error('no assignment');
    const { version, artifacts } = fromBinary(ManifestSchema, assignment.base.manifest);
    const length = Number(artifacts.find(({ role }) => role === 'weights')?.size) / 4;
    const delta = new Float32Array(length);
    delta[this.#index] = 1;
    const payload = encodings.float32.encode(delta, gridFromWire(assignment.grid), this.#world.random);
    const payloadDigest = sha256(payload);
    const { task, round } = assignment;
    const identity = { agentId: this.id, task, round: Number(round), baseVersion: Number(version), payloadDigest };
    const header = create(UpdateHeaderSchema, {
      updateId: updateId(identity, sha256),
      agentId: this.id,
      task,
      round,
      baseVersion: version,
      encoding: assignment.encoding,
      weight: BigInt(this.#index + 1),
      payloadDigest,
      payloadSize: BigInt(payload.length),
    });
    return { header, payload };
  }

  async #upload({ header, payload }: Kept): Promise<void> {
    const { network, time, random, edge } = this.#world;
    const work = workOf(header);
    const serve = <T>(call: (service: CoordinatorService) => Promise<T>) =>
      network.request(() => {
        const now = edge();
        return now === undefined ? new Promise<T>(() => {}) : call(now.service);
      });
    for (let tries = 0; tries < UPLOAD_TRIES && this.#isAlive; tries++) {
      try {
        if (tries > 0) await serve((service) => service.updateStatus(header.updateId));
        if (!this.#isAlive) return;
        const answer = await serve((service) => service.submitChunk(this.id, header, 0, payload));
        if (!this.#isAlive) return;
        if (answer.receipt !== undefined) return this.#end(answer.receipt);
        if (answer.accepted) {
          this.#world.onAccepted(hex(header.updateId));
          if (this.#world.planted.forgetsAcceptedUpdates === true) this.#disk.outbox.delete(hex(header.updateId));
          return this.#do({ type: 'UploadAccepted', ...work });
        }
      } catch {
        // No answer, or none that helps: the next try asks again.
      }
      await time.sleep(random.uniform() * 1_000 * 2 ** tries);
    }
    if (this.#isAlive) this.#do({ type: 'UploadBroken', ...work });
  }

  #end(signed: SignedReceipt): void {
    const receipt = fromBinary(ReceiptSchema, signed.receipt);
    this.#world.onReceipt(receipt);
    this.#disk.outbox.delete(hex(receipt.updateId));
    this.#do({ type: 'Ended', ...workOf(receipt) });
  }
}

const workOf = ({ task, round }: { task: string; round: bigint }): Work => ({ task, round: Number(round) });
const plain = ({ task, round }: Work): Work => ({ task, round });
const keyOf = ({ task, round }: Work): string => `${task} ${round}`;
