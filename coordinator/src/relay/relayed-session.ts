import { create } from '@bufbuild/protobuf';
import {
  SessionResponseSchema,
  type Assignment,
  type Hello,
  type OfferedUpdate,
  type RoundOver,
  type SessionRequest,
  type SessionResponse,
  type SignedReceipt,
} from '@commonweight/proto';
import { ALIVE } from '../driver/agent-sessions.ts';
import type { AgentSession, AgentSink, ServiceError } from '../service.ts';
import type { UpSession, Upward } from './uplink.ts';

/** How often agents show that they are there: to the relay, which answers by itself. */
const HEARTBEAT_MS = 5_000;
/** A session that broke is begun again within this time, where the coordinator is there. */
const AGAIN_MS = 1_000;

/** What a relay does with what goes through an agent's session. */
export interface SessionListener {
  /** The key that the coordinator signs with; undefined while it was never reached. */
  publicKey(): Uint8Array | undefined;
  isExpected(publicKey: Uint8Array): boolean;
  assigned(agentId: string, assignment: Assignment): void;
  failed(agentId: string, task: string, round: number): void;
  roundOver(over: RoundOver): void;
  receipt(receipt: SignedReceipt): void;
  /** Whether the relay has the update and sends it itself. */
  wanted(updateId: Uint8Array): boolean;
  /** Which of the updates the coordinator is asked about, and which the relay wants to have itself. */
  offered(updates: readonly OfferedUpdate[]): { ask: OfferedUpdate[]; want: OfferedUpdate[] };
  /** The session at the coordinator is over: it may have forgotten what it took of the agent. */
  lost(agentId: string): void;
  closed(): void;
}

/**
 * One agent's session, and its image at the coordinator. All that is said passes, but heartbeats are answered here, and what breaks above is
 * begun again there while the agent stays.
 */
export class RelayedSession implements AgentSession {
  readonly agentId: string;
  #hello: Hello;
  readonly #sink: AgentSink;
  readonly #uplink: Upward;
  readonly #listener: SessionListener;
  #above: UpSession | undefined;
  #isWelcomed = false;
  /** Free to be invited, as far as it said. */
  #isReady = false;
  #isClosed = false;
  #again: NodeJS.Timeout | undefined;

  constructor(hello: Hello, sink: AgentSink, uplink: Upward, listener: SessionListener) {
    this.agentId = hello.agentId;
    this.#hello = hello;
    this.#sink = sink;
    this.#uplink = uplink;
    this.#listener = listener;
  }

  begin(): void {
    const publicKey = this.#listener.publicKey();
    if (publicKey !== undefined) this.#welcome(publicKey);
    this.reach();
  }

  /** Begins the session at the coordinator, where it has none. */
  reach(): void {
    clearTimeout(this.#again);
    if (this.#isClosed || this.#above !== undefined || !this.#uplink.isUp) return;
    const above = this.#uplink.openSession(this.#hello, {
      onMessage: (message) => this.#above === above && this.#fromAbove(message),
      onEnd: (error) => this.#above === above && this.#endedAbove(error),
    });
    this.#above = above;
    if (this.#isReady) above.send({ case: 'ready', value: {} });
  }

  /** What the relay itself has to say. */
  tell(message: SessionResponse): void {
    if (!this.#isClosed) this.#sink.send(message);
  }

  receive(request: SessionRequest): void {
    const { message } = request;
    switch (message.case) {
      case 'heartbeat':
        this.tell(ALIVE);
        break;
      case 'ready':
        this.#isReady = true;
        break;
      case 'conditions':
        this.#hello = { ...this.#hello, conditions: message.value.holding };
        break;
      case 'failure':
        this.#listener.failed(this.agentId, message.value.task, Number(message.value.round));
        break;
      case 'offer':
        return this.#offered(message.value.updates);
      case 'goodbye':
        this.#above?.send(message);
        return this.closed();
      case 'calibrationReport':
      case 'measurementReport':
      case 'hello':
      case undefined:
    }
    if (message.case !== undefined) this.#above?.send(message);
  }

  closed(): void {
    if (this.#isClosed) return;
    this.#end();
    this.#listener.closed();
  }

  /** Ends it from this side. */
  close(reason: string, afterMs?: number): void {
    if (this.#isClosed) return;
    this.#sink.close(reason, afterMs);
    this.closed();
  }

  #end(): void {
    this.#isClosed = true;
    clearTimeout(this.#again);
    this.#above?.close();
    this.#above = undefined;
  }

  #welcome(publicKey: Uint8Array): void {
    if (this.#isWelcomed) return;
    this.#isWelcomed = true;
    const value = { publicKey, heartbeatMs: HEARTBEAT_MS, answersHeartbeats: true };
    this.#sink.send(create(SessionResponseSchema, { message: { case: 'welcome', value } }));
  }

  #offered(updates: readonly OfferedUpdate[]): void {
    const { ask, want } = this.#listener.offered(updates);
    for (const { updateId } of want)
      this.tell(create(SessionResponseSchema, { message: { case: 'wanted', value: { updateId } } }));
    if (ask.length === 0) return;
    this.#above?.send({ case: 'offer', value: { updates: ask } });
  }

  #fromAbove(response: SessionResponse): void {
    const { message } = response;
    switch (message.case) {
      case 'welcome':
        // Whoever signs otherwise is not the coordinator that agents know by this relay.
        if (this.#listener.isExpected(message.value.publicKey)) this.#welcome(message.value.publicKey);
        else this.close('the coordinator of this relay signs with another key than before');
        return;
      case 'comeBack':
        this.#listener.lost(this.agentId);
        return this.close(message.value.reason, message.value.afterMs);
      case 'alive':
        return;
      case 'assignment':
        this.#isReady = false;
        this.#listener.assigned(this.agentId, message.value);
        break;
      case 'receipt':
        this.#listener.receipt(message.value);
        break;
      case 'roundOver':
        this.#listener.roundOver(message.value);
        break;
      case 'wanted':
        if (this.#listener.wanted(message.value.updateId)) return;
        break;
      case 'calibrationRequest':
      case 'measurementRequest':
      case undefined:
    }
    this.tell(response);
  }

  #endedAbove(error: ServiceError | undefined): void {
    this.#above = undefined;
    if (this.#isClosed) return;
    this.#listener.lost(this.agentId);
    if (error?.code === 'invalid') return this.close(error.message);
    this.#again = setTimeout(() => this.reach(), Math.random() * AGAIN_MS);
  }
}
