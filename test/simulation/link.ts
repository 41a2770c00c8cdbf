import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { BlobChunk } from '@commonweight/client-sdk';
import { ServiceError, type AgentGate, type AgentSession } from '@commonweight/coordinator';
import {
  ReceiptSchema,
  SessionRequestSchema,
  SessionResponseSchema,
  type GetUpdateStatusResponse,
  type Hello,
  type Receipt,
  type SessionRequest,
  type SessionResponse,
  type SignedReceipt,
  type SubmitUpdateResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import type { AgentLink, OpenSession, SessionListener, SessionMessage } from '../../edge-agent/src/link/agent-link.ts';
import { ask, chunkBytes, worn, type AgentEdge, type Asker } from './ask.ts';
import type { VirtualTime } from './virtual-time.ts';

export interface LinkWorld extends StreamWorld {
  /** The coordinator is to be another one, if there is another. */
  leaveEdge(): void;
  /** The agent hears that its update is in the sum. */
  onAccepted(updateId: Uint8Array): void;
  /** The coordinator says so. */
  onTaken(header: UpdateHeader, by: AgentEdge): void;
  onReceipt(receipt: Receipt): void;
}

/** What a stream needs. */
export interface StreamWorld extends Asker<AgentEdge> {
  time: VirtualTime;
}

/** How long a coordinator may take a stream that is gone to be there. */
const HALF_OPEN_MS = 20_000;

/** The port of the production agent over a simulated network: sessions of messages as over NATS, or of streams as over gRPC. */
export class SimulatedLink implements AgentLink {
  readonly kind: 'grpc' | 'nats';
  readonly #agentId: string;
  readonly #world: LinkWorld;
  readonly #chunkBytes: number;
  #messages: MessageSession | undefined;
  #stream: StreamSession | undefined;
  #listener: SessionListener | undefined;

  constructor(kind: 'grpc' | 'nats', agentId: string, world: LinkWorld) {
    this.kind = kind;
    this.#agentId = agentId;
    this.#world = world;
    this.#chunkBytes = chunkBytes(world.random);
  }

  openSession(hello: Hello, listener: SessionListener): OpenSession {
    this.#listener = listener;
    const heard: SessionListener = {
      onClosed: (why) => this.#world.isAlive() && listener.onClosed(why),
      onMessage: (response) => {
        if (!this.#world.isAlive()) return;
        if (response.message.case === 'receipt') this.#saw(response.message.value);
        listener.onMessage(response);
      },
    };
    if (this.kind === 'nats') return (this.#messages = new MessageSession(this.#agentId, hello, heard, this.#world));
    return (this.#stream = new StreamSession(hello, heard, this.#world));
  }

  /** Bytes for the agent's inbox. */
  deliver(payload: Uint8Array): void {
    this.#messages?.deliver(fromBinary(SessionResponseSchema, payload));
  }

  /** Somebody on the network gives out a receipt as the coordinator's. */
  deliverForged(value: SignedReceipt): void {
    if (this.#messages?.isOpen === true)
      this.#listener?.onMessage(create(SessionResponseSchema, { message: { case: 'receipt', value } }));
  }

  /** A coordinator says that it was started. */
  deliverStarted(): void {
    this.#messages?.end('the coordinator was started');
  }

  /** The agent's process is gone; a stream of it ends, and the coordinator hears of that some time. */
  kill(): void {
    this.#stream?.close();
  }

  async *readBlob(digest: Uint8Array, offset: number, signal: AbortSignal): AsyncIterable<BlobChunk> {
    for (let at = offset; !signal.aborted;) {
      const { data, totalSize } = await this.#ask((service) => service.readBlob(digest, at, this.#chunkBytes));
      yield { offset: at, totalSize, data: worn(this.#world, data) };
      at += data.length;
      if (at >= totalSize || data.length === 0) return;
    }
  }

  updateStatus(updateId: Uint8Array): Promise<GetUpdateStatusResponse> {
    return this.#ask((service) => service.updateStatus(updateId));
  }

  async submit(header: UpdateHeader, payload: Uint8Array, from: number): Promise<SubmitUpdateResponse> {
    for (let offset = from; ;) {
      const data = worn(this.#world, payload.subarray(offset, offset + this.#chunkBytes));
      const answer = await this.#ask(async (service, edge) => {
        const said = await service.submitChunk(this.#agentId, header, offset, data);
        if (said.accepted && said.receipt === undefined && edge.isAlive()) this.#world.onTaken(header, edge);
        return said;
      });
      if (answer.receipt !== undefined) this.#saw(answer.receipt);
      else if (answer.accepted) this.#world.onAccepted(header.updateId);
      const held = Number(answer.offset);
      if (answer.accepted || answer.receipt !== undefined || held <= offset || held >= payload.length) return answer;
      offset = held;
    }
  }

  async rest(): Promise<void> {}

  reconnect(): void {
    this.#world.leaveEdge();
  }

  async close(): Promise<void> {
    this.kill();
  }

  #ask<T>(call: (service: AgentGate, edge: AgentEdge) => Promise<T>): Promise<T> {
    return ask(this.#world, this.kind === 'grpc', call);
  }

  #saw(signed: SignedReceipt): void {
    this.#world.onReceipt(fromBinary(ReceiptSchema, signed.receipt));
  }
}

const copyOf = (message: SessionMessage, sessionId: string): SessionRequest =>
  fromBinary(
    SessionRequestSchema,
    toBinary(SessionRequestSchema, create(SessionRequestSchema, { sessionId, message })),
  );

/** A session of single messages, each of which may be lost, doubled or late. */
class MessageSession implements OpenSession {
  readonly #agentId: string;
  readonly #sessionId: string;
  readonly #listener: SessionListener;
  readonly #world: LinkWorld;
  #isOpen = true;

  constructor(agentId: string, hello: Hello, listener: SessionListener, world: LinkWorld) {
    this.#agentId = agentId;
    this.#sessionId = hello.sessionId;
    this.#listener = listener;
    this.#world = world;
    this.send({ case: 'hello', value: hello });
  }

  get isOpen(): boolean {
    return this.#isOpen && this.#world.isAlive();
  }

  send(message: SessionMessage): void {
    const { name, network, edge, isAlive } = this.#world;
    if (!this.#isOpen || !isAlive()) return;
    const request = copyOf(message, this.#sessionId);
    network.send(name, () => {
      const now = edge();
      if (now !== undefined && !network.isCut(now.machine)) now.deliver(() => now.receive(this.#agentId, request));
    });
  }

  close(): void {
    this.#isOpen = false;
  }

  end(why: string): void {
    if (!this.#isOpen) return;
    this.close();
    this.#listener.onClosed(why);
  }

  deliver(response: SessionResponse): void {
    if (!this.#isOpen || response.sessionId !== this.#sessionId) return;
    if (response.message.case === 'comeBack') this.end(response.message.value.reason);
    else this.#listener.onMessage(response);
  }
}

/** A session over one connection: in order, and nothing lost until it breaks. Its two ends hear of that at different times. */
export class StreamSession implements OpenSession {
  readonly #sessionId: string;
  readonly #listener: SessionListener;
  readonly #world: StreamWorld;
  #agentIsThere = true;
  #isWhole = true;
  #served: { session: AgentSession; edge: AgentEdge } | undefined;
  readonly #lastMs = { up: 0, down: 0 };
  #machine: string | undefined;

  constructor(hello: Hello, listener: SessionListener, world: StreamWorld) {
    this.#sessionId = hello.sessionId;
    this.#listener = listener;
    this.#world = world;
    this.#carry('up', () => this.#begin(hello));
  }

  send(message: SessionMessage): void {
    if (!this.#agentIsThere || !this.#world.isAlive()) return;
    const request = copyOf(message, this.#sessionId);
    this.#carry('up', () => {
      const served = this.#served;
      served?.edge.deliver(() => served.session.receive(request));
    });
  }

  close(): void {
    if (!this.#agentIsThere) return;
    this.#agentIsThere = false;
    this.#isWhole = false;
    this.#tellCoordinator();
  }

  #begin(hello: Hello): void {
    const edge = this.#world.edge();
    if (edge === undefined) return this.#break('nobody listens');
    this.#machine = edge.machine;
    // Its packets were dropped: the connection comes about once they are sent again, behind the partition.
    if (this.#cutForMs() > 0) return this.#carry('up', () => this.#begin(hello));
    edge.onEnd(() => this.#break('the connection was reset'));
    edge.deliver(() => this.#connect(hello, edge));
  }

  #connect(hello: Hello, edge: AgentEdge): void {
    const session = this.#accepted(hello, edge);
    if (session === undefined) return;
    this.#served = { session, edge };
  }

  #accepted(hello: Hello, edge: AgentEdge): AgentSession | undefined {
    try {
      return edge.service.connectAgent(
        { ...hello, link: 'grpc' },
        {
          send: (response) => {
            const copy = fromBinary(SessionResponseSchema, toBinary(SessionResponseSchema, response));
            if (edge.isAlive()) this.#carry('down', () => this.#agentIsThere && this.#listener.onMessage(copy));
          },
          close: (reason) => edge.isAlive() && this.#carry('down', () => this.#break(reason)),
        },
      );
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      this.#break(error.message);
      return undefined;
    }
  }

  /** How long one of the two ends is cut off: what is sent meanwhile is sent again after it. */
  #cutForMs(): number {
    const { network, name } = this.#world;
    return Math.max(network.cutForMs(name), this.#machine === undefined ? 0 : network.cutForMs(this.#machine));
  }

  /** Brings a message to the other end, behind those before it; now and then the connection breaks instead. */
  #carry(way: 'up' | 'down', deliver: () => void): void {
    if (!this.#isWhole) return;
    const { time, network, random } = this.#world;
    if (random.uniform() < network.weather.loss / 4) return this.#break('the connection was lost');
    this.#lastMs[way] = Math.max(this.#lastMs[way], time.elapsedMs + this.#cutForMs() + network.usualMs());
    time.after(this.#lastMs[way] - time.elapsedMs, () => this.#isWhole && deliver());
  }

  #break(why: string): void {
    if (!this.#isWhole) return;
    this.#isWhole = false;
    this.#tellCoordinator();
    this.#world.time.after(this.#world.network.usualMs(), () => {
      if (!this.#agentIsThere) return;
      this.#agentIsThere = false;
      this.#listener.onClosed(why);
    });
  }

  #tellCoordinator(): void {
    const { time, random } = this.#world;
    const isSlow = random.uniform() < 0.3;
    time.after(random.uniform() * (isSlow ? HALF_OPEN_MS : 100), () => {
      const served = this.#served;
      served?.edge.deliver(() => served.session.closed());
    });
  }
}
