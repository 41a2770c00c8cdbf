/**
 * What free agents are asked besides the work of their tasks, of a version on their own data. An inquiry asks those that come free until it has
 * heard enough, waits a while for those that are slow, and ends; an agent is asked one thing at a time.
 */
import { randomBytes } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { CodecError } from '@commonweight/core';
import {
  SessionRequestSchema,
  SessionResponseSchema,
  type SessionRequest,
  type SessionResponse,
} from '@commonweight/proto';
import type { Clock } from '../clock.ts';
import type { ServiceError } from '../service.ts';

/** Agents that are asked for one version. */
const AGENTS_MAX = 16;
/** How long those that were asked may take once enough have answered. */
const STRAGGLERS_MS = 10_000;
/** An agent that said nothing for so long has lost what it was asked, and may be asked again. */
const LOST_MS = 180_000;
const LOOK_MS = 500;

/** What agents say to an inquiry. */
export type Answer = Extract<SessionRequest['message'], { case: 'calibrationReport' | 'measurementReport' }>;

/** Whether an answer of an agent is waited for, came, or was nothing. */
export type Asked = 'waiting' | 'answered' | 'failed';

export interface Inquiry<Result> {
  /** Bytes of one answer. */
  bytesMax: number;
  /** Who is free and may be asked; with `only`, whether that agent is. */
  agents(asked: (agentId: string) => Asked | undefined, only?: string): readonly string[];
  message(requestId: Uint8Array, agentId: string): SessionResponse['message'];
  /** Takes what an agent says, whole. Throws CodecError where it cannot be so. */
  take(agentId: string, answer: Answer): void;
  /** An agent brought nothing. */
  failed(agentId: string, why: string): void;
  isEnough(): boolean;
  /** Called now and then while it is not enough; an error ends the inquiry. */
  lacking(waitedMs: number): ServiceError | undefined;
  /** What those come to that answered. */
  result(): Result;
}

export interface InquiryWorld {
  clock: Clock;
  send(agentId: string, message: SessionResponse): void;
}

interface Open {
  inquiry: Inquiry<unknown>;
  asked: Map<string, { state: Asked; sinceMs: number }>;
  beganMs: number;
  enoughMs: number | undefined;
  resolve(): void;
  reject(error: unknown): void;
}

export class Inquiries {
  readonly #world: InquiryWorld;
  /** By request id. */
  readonly #open = new Map<string, Open>();
  readonly #stopLooking: () => void;

  constructor(world: InquiryWorld) {
    this.#world = world;
    this.#stopLooking = world.clock.every(LOOK_MS, () => this.#look());
  }

  /** What agents say. Throws what the inquiry ends itself with, and the signal's reason. */
  async ask<Result>(inquiry: Inquiry<Result>, signal: AbortSignal): Promise<Result> {
    signal.throwIfAborted();
    const requestId = randomBytes(16).toString('hex');
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const stop = (): void => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    const beganMs = this.#world.clock.monotonicMs();
    const open = { inquiry, asked: new Map(), beganMs, enoughMs: undefined, resolve, reject };
    this.#open.set(requestId, open);
    this.#askFree(requestId, open);
    try {
      await promise;
      return inquiry.result();
    } finally {
      this.#open.delete(requestId);
      signal.removeEventListener('abort', stop);
    }
  }

  /** An agent is free: it may be asked. */
  agentReady(agentId: string): void {
    for (const [requestId, open] of this.#open) this.#askFree(requestId, open, agentId);
  }

  /** Takes what an agent that was asked says; anything else is not heard. */
  receive(agentId: string, answer: Answer): void {
    const open = this.#open.get(Buffer.from(answer.value.requestId).toString('hex'));
    const asked = open?.asked.get(agentId);
    if (open === undefined || asked?.state !== 'waiting') return;
    const { inquiry } = open;
    const why = whyRefused(() => {
      if (answer.value.failure !== '') throw new CodecError(answer.value.failure);
      const bytes = toBinary(SessionRequestSchema, create(SessionRequestSchema, { message: answer })).length;
      if (bytes > inquiry.bytesMax) throw new CodecError(`its report has ${bytes} bytes`);
      inquiry.take(agentId, answer);
    });
    asked.state = why === undefined ? 'answered' : 'failed';
    if (why !== undefined) inquiry.failed(agentId, why.slice(0, 200));
    this.#look();
  }

  close(): void {
    this.#stopLooking();
  }

  #askFree(requestId: string, { inquiry, asked }: Open, only?: string): void {
    const nowMs = this.#world.clock.monotonicMs();
    for (const [agentId, { state, sinceMs }] of [...asked])
      if (state === 'waiting' && nowMs - sinceMs >= LOST_MS) asked.delete(agentId);
    let useful = [...asked.values()].filter(({ state }) => state !== 'failed').length;
    if (useful >= AGENTS_MAX) return;
    for (const agentId of inquiry.agents((agent) => asked.get(agent)?.state, only)) {
      if (useful >= AGENTS_MAX) return;
      if (asked.has(agentId) || this.#isBusy(agentId)) continue;
      asked.set(agentId, { state: 'waiting', sinceMs: nowMs });
      useful += 1;
      const message = inquiry.message(Buffer.from(requestId, 'hex'), agentId);
      this.#world.send(agentId, create(SessionResponseSchema, { message }));
    }
  }

  /** Another inquiry waits for the agent. */
  #isBusy(agentId: string): boolean {
    for (const { asked } of this.#open.values()) if (asked.get(agentId)?.state === 'waiting') return true;
    return false;
  }

  /** Asks those that another inquiry was busy with, and ends what has enough and waits for nobody, and what gives up. */
  #look(): void {
    const nowMs = this.#world.clock.monotonicMs();
    for (const [requestId, open] of this.#open) this.#askFree(requestId, open);
    for (const open of this.#open.values()) {
      const { inquiry, asked } = open;
      if (!inquiry.isEnough()) {
        const error = inquiry.lacking(nowMs - open.beganMs);
        if (error !== undefined) open.reject(error);
        continue;
      }
      open.enoughMs ??= nowMs;
      const isWaiting = [...asked.values()].some(({ state }) => state === 'waiting');
      if (!isWaiting || nowMs - open.enoughMs >= STRAGGLERS_MS) open.resolve();
    }
  }
}

/** Why what an agent says is not taken; undefined where it is. */
function whyRefused(take: () => void): string | undefined {
  try {
    take();
    return undefined;
  } catch (error) {
    if (error instanceof CodecError) return error.message;
    throw error;
  }
}
