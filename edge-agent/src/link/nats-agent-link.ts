import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { asError, natsRequest, openNats, sleep, type BlobChunk } from '@commonweight/client-sdk';
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
  type SubmitUpdateResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import type { NatsConnection, Subscription } from '@nats-io/transport-node';
import type { AgentLink, OpenSession, SessionListener, SessionMessage } from './agent-link.ts';

/** How long a link that closes waits for the server to take what was published. */
const FLUSH_MS = 500;

export class NatsAgentLink implements AgentLink {
  readonly kind = 'nats';
  readonly #url: string;
  readonly #agentId: string;
  readonly #stop = new AbortController();
  #opening: Promise<NatsConnection> | undefined;

  constructor(url: string, agentId: string) {
    this.#url = url;
    this.#agentId = agentId;
  }

  openSession(hello: Hello, listener: SessionListener): OpenSession {
    const session = new NatsSession(this.#agentId, hello, listener);
    this.#connection().then(
      (connection) => session.begin(connection),
      (error: unknown) => session.end(asError(error).message),
    );
    return session;
  }

  async *readBlob(digest: Uint8Array, offset: number, signal: AbortSignal): AsyncIterable<BlobChunk> {
    const schemas = { input: AgentServiceDownloadRequestSchema, output: AgentServiceDownloadResponseSchema };
    const connection = await this.#connection();
    for (let at = offset; !signal.aborted;) {
      const request = { digest, offset: BigInt(at), length: BigInt(CHUNK_BYTES_MAX) };
      const chunk = await natsRequest(connection, agentSubject(this.#agentId, 'download'), schemas, request);
      const totalSize = Number(chunk.totalSize);
      yield { offset: at, totalSize, data: chunk.data };
      at += chunk.data.length;
      if (at >= totalSize || chunk.data.length === 0) return;
    }
  }

  async updateStatus(updateId: Uint8Array): Promise<GetUpdateStatusResponse> {
    const schemas = { input: GetUpdateStatusRequestSchema, output: GetUpdateStatusResponseSchema };
    return natsRequest(await this.#connection(), agentSubject(this.#agentId, 'status'), schemas, { updateId });
  }

  async submit(header: UpdateHeader, payload: Uint8Array, from: number): Promise<SubmitUpdateResponse> {
    const schemas = { input: SubmitUpdateRequestSchema, output: SubmitUpdateResponseSchema };
    const connection = await this.#connection();
    for (let offset = from; ;) {
      const data = payload.subarray(offset, offset + CHUNK_BYTES_MAX);
      const request = { header, offset: BigInt(offset), data };
      const answer = await natsRequest(connection, agentSubject(this.#agentId, 'submit'), schemas, request);
      const held = Number(answer.offset);
      // Not further than before: the caller asks where to go on.
      if (answer.accepted || answer.receipt !== undefined || held <= offset || held >= payload.length) return answer;
      offset = held;
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    const connection = await this.#opening?.catch(() => undefined);
    if (connection === undefined || connection.isClosed()) return;
    // What was published goes out; requests that wait for an answer are given up.
    const flushed = connection.flush().catch(() => undefined);
    await Promise.race([flushed, sleep(FLUSH_MS)]);
    await connection.close();
  }

  /** One connection, made when it is first needed; it reconnects by itself. */
  #connection(): Promise<NatsConnection> {
    this.#opening ??= openNats(this.#url, { name: `commonweight agent ${this.#agentId}`, signal: this.#stop.signal });
    return this.#opening;
  }
}

class NatsSession implements OpenSession {
  readonly #agentId: string;
  readonly #hello: Hello;
  readonly #listener: SessionListener;
  #connection: NatsConnection | undefined;
  #subscriptions: Subscription[] = [];
  #ended = false;

  constructor(agentId: string, hello: Hello, listener: SessionListener) {
    this.#agentId = agentId;
    this.#hello = hello;
    this.#listener = listener;
  }

  begin(connection: NatsConnection): void {
    if (this.#ended) return;
    this.#connection = connection;
    this.#subscriptions = [
      connection.subscribe(agentInboxSubject(this.#agentId)),
      connection.subscribe(COORDINATOR_STARTED_SUBJECT, { callback: () => this.end('the coordinator was started') }),
    ];
    void this.#listen(this.#subscriptions[0]!);
    void this.#watch(connection);
    this.send({ case: 'hello', value: this.#hello });
  }

  send(message: SessionMessage): void {
    const connection = this.#connection;
    // While the server is away the client would queue without limit; the session has ended then anyway.
    if (this.#ended || connection === undefined || connection.isClosed()) return;
    const request = create(SessionRequestSchema, { sessionId: this.#hello.sessionId, message });
    connection.publish(agentSubject(this.#agentId, 'session'), toBinary(SessionRequestSchema, request));
  }

  close(): void {
    this.#ended = true;
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
  }

  end(why: string): void {
    if (this.#ended) return;
    this.close();
    this.#listener.onClosed(why);
  }

  async #listen(subscription: Subscription): Promise<void> {
    for await (const { data } of subscription) {
      const response = fromBinary(SessionResponseSchema, data, { readUnknownFields: false });
      if (response.sessionId !== this.#hello.sessionId) continue;
      if (response.message.case === 'comeBack') this.end(response.message.value.reason);
      else if (!this.#ended) this.#listener.onMessage(response);
    }
  }

  async #watch(connection: NatsConnection): Promise<void> {
    for await (const { type } of connection.status()) {
      if (this.#ended) return;
      if (type === 'disconnect') this.end('the NATS server is away');
    }
  }
}
