import { create, toBinary } from '@bufbuild/protobuf';
import { SessionResponseSchema, type SessionRequest, type SessionResponse } from '@commonweight/proto';
import { systemClock, type Clock } from '../../clock.ts';
import type { AgentSession, CoordinatorService } from '../../service.ts';

/** Silence after which an agent is taken to be away: three of its heartbeats. */
const SILENCE_MS = 15_000;
const LOOK_MS = 1_000;

interface Open {
  sessionId: string;
  session: AgentSession;
  heardMs: number;
}

/** Sessions of agents whose link has no stream of its own: begun by Hello, kept by heartbeats. */
export class NatsSessions {
  readonly #service: CoordinatorService;
  readonly #publish: (agentId: string, payload: Uint8Array) => void;
  readonly #open = new Map<string, Open>();
  readonly #clock: Clock;
  readonly #stopLooking: () => void;

  constructor(
    service: CoordinatorService,
    publish: (agentId: string, payload: Uint8Array) => void,
    clock: Clock = systemClock,
  ) {
    this.#service = service;
    this.#publish = publish;
    this.#clock = clock;
    this.#stopLooking = clock.every(LOOK_MS, () => this.#look());
  }

  receive(agentId: string, request: SessionRequest): void {
    const { sessionId, message } = request;
    if (message.case === 'hello' && message.value.agentId === agentId) {
      const hello = { ...message.value, link: 'nats' };
      const session = this.#service.connectAgent(hello, {
        send: (response) => this.#send(agentId, sessionId, response),
        close: (reason) => this.#close(agentId, sessionId, reason),
      });
      this.#open.set(agentId, { sessionId, session, heardMs: this.#clock.monotonicMs() });
      return;
    }
    const open = this.#open.get(agentId);
    if (open?.sessionId !== sessionId)
      return this.#close(agentId, sessionId, 'this session is not known: say Hello again');
    open.heardMs = this.#clock.monotonicMs();
    open.session.receive(request);
  }

  /** Ends all sessions: their agents come again. */
  close(): void {
    this.#stopLooking();
    for (const [agentId, { sessionId, session }] of this.#open) {
      this.#close(agentId, sessionId, 'the coordinator is stopping');
      session.closed();
    }
    this.#open.clear();
  }

  #send(agentId: string, sessionId: string, response: SessionResponse): void {
    this.#publish(agentId, toBinary(SessionResponseSchema, { ...response, sessionId }));
  }

  #close(agentId: string, sessionId: string, reason: string): void {
    const message = { case: 'comeBack', value: { afterMs: 0, reason } } as const;
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
