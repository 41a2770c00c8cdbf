import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  asError,
  chunksAhead,
  isUnreached,
  loadNats,
  sleep,
  TransportError,
  type BlobChunk,
  type Nats,
} from '@commonweight/client-sdk';
import {
  agentInboxSubject,
  AgentServiceDownloadRequestSchema,
  AgentServiceDownloadResponseSchema,
  agentSubject,
  COORDINATOR_STARTED_SUBJECT,
  CHUNK_BYTES_MAX,
  GetUpdateStatusRequestSchema,
  GetUpdateStatusResponseSchema,
  SessionRequestSchema,
  SessionResponseSchema,
  SubmitUpdateRequestSchema,
  SubmitUpdateResponseSchema,
  type GetUpdateStatusResponse,
  type Hello,
  type SessionResponse,
  type SubmitUpdateResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import type { NatsConnection, Subscription } from '@nats-io/transport-node';
import type { AgentLink, OpenSession, SessionListener, SessionMessage } from './agent-link.ts';
import { sendChunks } from './send-chunks.ts';

/** What the server answers where nobody subscribes to a subject. */
const NO_RESPONDERS = 503;
/** How long a session waits for a first connection. */
const CONNECT_WAIT_MS = 4_000;
/** How long a link that closes waits for the server to take what was published. */
const FLUSH_MS = 500;

interface Connected {
  nats: Nats;
  connection: NatsConnection;
}

export class NatsAgentLink implements AgentLink {
  readonly kind = 'nats';
  readonly #url: string;
  readonly #agentId: string;
  readonly #stop = new AbortController();
  #opening: Promise<Connected> | undefined;
  #requests: InstanceType<Nats['NatsRequests']> | undefined;
  #session: NatsSession | undefined;
  /** The coordinator that the server chose did not answer: the next session asks who lives. */
  #isUnanswered = false;

  constructor(url: string, agentId: string) {
    this.#url = url;
    this.#agentId = agentId;
  }

  openSession(hello: Hello, listener: SessionListener): OpenSession {
    const session = new NatsSession(this.#agentId, hello, listener);
    this.#session = session;
    this.#begin(session).catch((error: unknown) => session.end(asError(error).message, 0, isUnreached(error)));
    return session;
  }

  async #begin(session: NatsSession): Promise<void> {
    const { nats, connection } = await this.#connectedSoon();
    const isUnanswered = this.#isUnanswered;
    this.#isUnanswered = false;
    // Where none says that it lives, the server may still know one of before there was this question.
    const replica = isUnanswered ? await nats.findCoordinator(connection).catch(() => '') : '';
    session.begin(nats, connection, replica);
  }

  async *readBlob(digest: Uint8Array, from: number, signal: AbortSignal): AsyncIterable<BlobChunk> {
    const schemas = { input: AgentServiceDownloadRequestSchema, output: AgentServiceDownloadResponseSchema };
    const { nats, connection } = await this.#connected();
    const requests = (this.#requests ??= new nats.NatsRequests(connection));
    const subject = agentSubject(this.#agentId, 'download');
    const ask = async (offset: number) => {
      const request = { digest, offset: BigInt(offset), length: BigInt(CHUNK_BYTES_MAX) };
      const { data, totalSize } = await requests.ask(subject, schemas, request);
      return { data, totalSize: Number(totalSize) };
    };
    yield* chunksAhead(ask, { from, chunkBytes: CHUNK_BYTES_MAX, signal });
  }

  async updateStatus(updateId: Uint8Array): Promise<GetUpdateStatusResponse> {
    const schemas = { input: GetUpdateStatusRequestSchema, output: GetUpdateStatusResponseSchema };
    const subject = agentSubject(this.#agentId, 'status', this.#session?.replica);
    const { nats, connection } = await this.#connected();
    return nats.natsRequest(connection, subject, schemas, { updateId });
  }

  async submit(header: UpdateHeader, payload: Uint8Array, from: number): Promise<SubmitUpdateResponse> {
    const schemas = { input: SubmitUpdateRequestSchema, output: SubmitUpdateResponseSchema };
    const { nats, connection } = await this.#connected();
    // All chunks go to one coordinator.
    const subject = agentSubject(this.#agentId, 'submit', this.#session?.replica);
    const send = (offset: number): Promise<SubmitUpdateResponse> => {
      const data = payload.subarray(offset, offset + CHUNK_BYTES_MAX);
      return nats.natsRequest(connection, subject, schemas, { header, offset: BigInt(offset), data });
    };
    return sendChunks(send, { from, size: payload.length, chunkBytes: CHUNK_BYTES_MAX });
  }

  /** The connection is to the NATS server, which the client looks after; the next session goes to a coordinator that lives. */
  reconnect(): void {
    this.#session = undefined;
    this.#isUnanswered = true;
  }

  async rest(): Promise<void> {
    const connected = await this.#opening?.catch(() => undefined);
    this.#opening = undefined;
    this.#requests = undefined;
    await this.#end(connected?.connection);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#end((await this.#opening?.catch(() => undefined))?.connection);
  }

  async #end(connection: NatsConnection | undefined): Promise<void> {
    if (connection === undefined || connection.isClosed()) return;
    // What was published goes out; requests that wait for an answer are given up.
    const flushed = connection.flush().catch(() => undefined);
    await Promise.race([flushed, sleep(FLUSH_MS)]);
    await connection.close();
  }

  /** The connection, unless no server is there yet: then the agent hears of it before it takes the coordinator to be silent. */
  async #connectedSoon(): Promise<Connected> {
    const over = new AbortController();
    const connected = await Promise.race([this.#connected(), sleep(CONNECT_WAIT_MS, over.signal)]);
    over.abort();
    if (connected !== undefined) return connected;
    throw new TransportError('unavailable', `cannot reach ${this.#url}`, { unreached: true });
  }

  /** One connection, made when it is first needed; it reconnects by itself. */
  #connected(): Promise<Connected> {
    this.#opening ??= this.#open().catch((error: unknown) => {
      // A client that could not be loaded is loaded anew with the next session.
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  async #open(): Promise<Connected> {
    const nats = await loadNats();
    const options = { name: `commonweight agent ${this.#agentId}`, signal: this.#stop.signal };
    return { nats, connection: await nats.openNats(this.#url, options) };
  }
}

class NatsSession implements OpenSession {
  readonly #agentId: string;
  readonly #hello: Hello;
  readonly #listener: SessionListener;
  #nats: Nats | undefined;
  #connection: NatsConnection | undefined;
  #subscriptions: Subscription[] = [];
  #ended = false;
  #replica = '';

  constructor(agentId: string, hello: Hello, listener: SessionListener) {
    this.#agentId = agentId;
    this.#hello = hello;
    this.#listener = listener;
  }

  /** `replica`: the coordinator to greet; '' for whichever the server chooses. */
  begin(nats: Nats, connection: NatsConnection, replica: string): void {
    if (this.#ended) return;
    this.#nats = nats;
    this.#replica = replica;
    // A hello that waits for a server would be of a session that has ended by then.
    if (nats.isAway(connection)) return this.end('the NATS server is away', 0, true);
    this.#connection = connection;
    this.#subscriptions = [
      connection.subscribe(agentInboxSubject(this.#agentId)),
      connection.subscribe(COORDINATOR_STARTED_SUBJECT, { callback: () => this.#started() }),
    ];
    void this.#listen(this.#subscriptions[0]!);
    void this.#watch(connection);
    this.send({ case: 'hello', value: this.#hello });
  }

  send(message: SessionMessage): void {
    const [nats, connection] = [this.#nats, this.#connection];
    // While the server is away the client would queue without limit; the session has ended then anyway.
    if (this.#ended || nats === undefined || connection === undefined || nats.isAway(connection)) return;
    const request = create(SessionRequestSchema, { sessionId: this.#hello.sessionId, message });
    // Where the coordinator of the session is gone, the server says so to the inbox.
    const reply = agentInboxSubject(this.#agentId);
    const subject = agentSubject(this.#agentId, 'session', this.#replica);
    connection.publish(subject, toBinary(SessionRequestSchema, request), { reply });
  }

  /** Which coordinator has the session, once it has welcomed the agent; '' before. */
  get replica(): string {
    return this.#replica;
  }

  /** Some coordinator was started: perhaps the one of this session, which then knows nothing of it any more. */
  #started(): void {
    if (this.#replica === '') this.end('the coordinator was started');
    else this.send({ case: 'heartbeat', value: {} });
  }

  close(): void {
    this.#ended = true;
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
  }

  end(why: string, afterMs = 0, unreached = false): void {
    if (this.#ended) return;
    this.close();
    this.#listener.onClosed(why, afterMs, unreached);
  }

  async #listen(subscription: Subscription): Promise<void> {
    for await (const { data, headers } of subscription) {
      if (headers?.code === NO_RESPONDERS) {
        // The NATS server says so, for which it needs nobody.
        this.end('the coordinator is gone', 0, true);
        continue;
      }
      const response = responseIn(data);
      if (response?.sessionId !== this.#hello.sessionId) continue;
      if (response.message.case === 'welcome') this.#replica = response.message.value.replica;
      if (response.message.case === 'comeBack') this.end(response.message.value.reason, response.message.value.afterMs);
      else if (!this.#ended) this.#listener.onMessage(response);
    }
  }

  async #watch(connection: NatsConnection): Promise<void> {
    for await (const { type } of connection.status()) {
      if (this.#ended) return;
      if (type === 'disconnect') this.end('the NATS server is away', 0, true);
    }
  }
}

/** The message in some bytes of an inbox; whoever put others there is not listened to. */
function responseIn(data: Uint8Array): SessionResponse | undefined {
  try {
    return fromBinary(SessionResponseSchema, data, { readUnknownFields: false });
  } catch {
    return undefined;
  }
}
