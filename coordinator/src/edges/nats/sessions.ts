import { create, toBinary } from '@bufbuild/protobuf';
import { SessionResponseSchema, type Hello, type SessionRequest, type SessionResponse } from '@commonweight/proto';
import { systemClock, type Clock } from '../../clock.ts';
import { ServiceError, type AgentSession, type CoordinatorService } from '../../service.ts';
import { returnAfterMs } from '../../return-time.ts';

/** Silence after which an agent is taken to be away: three of its heartbeats. */
const SILENCE_MS = 15_000;
const LOOK_MS = 1_000;

interface Open {
  sessionId: string;
  session: AgentSession;
  heardMs: number;
  /** The answer to its heartbeats, as it goes over the wire. */
  alive?: Uint8Array;
}

/** Sessions of agents whose link has no stream of its own: begun by Hello, kept by heartbeats. */
export class NatsSessions {
  readonly #service: CoordinatorService;
  readonly #publish: (agentId: string, payload: Uint8Array) => void;
  readonly #replica: string;
  readonly #open = new Map<string, Open>();
  readonly #clock: Clock;
  readonly #stopLooking: () => void;

  constructor(
    service: CoordinatorService,
    publish: (agentId: string, payload: Uint8Array) => void,
    { clock = systemClock, replica = '' }: { clock?: Clock; replica?: string } = {},
  ) {
    this.#service = service;
    this.#publish = publish;
    this.#replica = replica;
    this.#clock = clock;
    this.#stopLooking = clock.every(LOOK_MS, () => this.#look());
  }

  receive(agentId: string, request: SessionRequest): void {
    const { sessionId, message } = request;
    if (message.case === 'hello' && message.value.agentId === agentId) {
      return this.#begin(agentId, sessionId, { ...message.value, link: 'nats' });
    }
    const open = this.#open.get(agentId);
    if (open?.sessionId !== sessionId)
      return this.#close(agentId, sessionId, 'this session is not known: say Hello again');
    open.heardMs = this.#clock.monotonicMs();
    open.session.receive(request);
  }

  #begin(agentId: string, sessionId: string, hello: Hello): void {
    let isClosed = false;
    try {
      const session = this.#service.connectAgent(hello, {
        send: (response) => this.#send(agentId, sessionId, response),
        close: (reason, afterMs) => {
          isClosed = true;
          if (this.#open.get(agentId)?.sessionId === sessionId) this.#open.delete(agentId);
          this.#close(agentId, sessionId, reason, afterMs);
        },
      });
      if (!isClosed) this.#open.set(agentId, { sessionId, session, heardMs: this.#clock.monotonicMs() });
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      this.#close(agentId, sessionId, error.message);
    }
  }

  /** Ends all sessions: their agents come again. */
  close(): void {
    this.#stopLooking();
    for (const [agentId, { sessionId, session }] of this.#open) {
      this.#close(agentId, sessionId, 'the coordinator is stopping', returnAfterMs(this.#open.size));
      session.closed();
    }
    this.#open.clear();
  }

  #send(agentId: string, sessionId: string, response: SessionResponse): void {
    const { message } = response;
    const open = this.#open.get(agentId);
    // A fleet hears nothing else for hours.
    const isAlive = message.case === 'alive' && open?.sessionId === sessionId;
    if (isAlive && open.alive !== undefined) return this.#publish(agentId, open.alive);
    const told =
      message.case === 'welcome' ? { ...message, value: { ...message.value, replica: this.#replica } } : message;
    const bytes = toBinary(SessionResponseSchema, { ...response, message: told, sessionId });
    if (isAlive) open.alive = bytes;
    this.#publish(agentId, bytes);
  }

  #close(agentId: string, sessionId: string, reason: string, afterMs = 0): void {
    const message = { case: 'comeBack', value: { afterMs, reason } } as const;
    this.#send(agentId, sessionId, create(SessionResponseSchema, { message }));
  }

  #look(): void {
    for (const [agentId, { heardMs, session }] of this.#open) {
      if (this.#clock.monotonicMs() - heardMs < SILENCE_MS) continue;
      this.#open.delete(agentId);
      session.closed();
    }
  }
}
