import {
  asError,
  isUnreached,
  openGrpcChannel,
  sleep,
  type BlobChunk,
  type GrpcChannel,
} from '@commonweight/client-sdk';
import {
  AgentService,
  UPLOAD_CHUNK_BYTES,
  type GetUpdateStatusResponse,
  type Hello,
  type SubmitUpdateResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import type { AgentLink, OpenSession, SessionListener, SessionMessage } from './agent-link.ts';

const SUBMIT_DEADLINE_MS = 600_000;
/** How long a link that closes waits for the coordinator to end the session: what was said last goes out meanwhile. */
const END_MS = 500;

export class GrpcAgentLink implements AgentLink {
  readonly kind = 'grpc';
  readonly #url: string;
  #channel: GrpcChannel;
  /** Sessions that have not ended; what cuts each. */
  readonly #open = new Map<Promise<void>, () => void>();
  readonly #closed = new AbortController();

  constructor(url: string) {
    this.#url = url;
    this.#channel = openGrpcChannel(url);
  }

  openSession(hello: Hello, { onMessage, onClosed }: SessionListener): OpenSession {
    const { sessionId } = hello;
    const stream = this.#channel.bidi(AgentService.method.session);
    // What cannot be written was said on a session that is breaking; its end is told by the iteration below.
    const send = (message: SessionMessage): void => void stream.write({ sessionId, message }).catch(() => undefined);
    send({ case: 'hello', value: hello });
    let end = { reason: 'the coordinator ended the session', afterMs: 0 };
    const read = async (): Promise<void> => {
      for await (const response of stream) {
        if (response.message.case === 'comeBack') end = response.message.value;
        else onMessage(response);
      }
    };
    const reading = read();
    const over = reading.catch(() => undefined).finally(() => this.#open.delete(over));
    this.#open.set(over, () => stream.cancel());
    reading.then(
      () => onClosed(end.reason, end.afterMs),
      (error: unknown) => onClosed(asError(error).message, end.afterMs, isUnreached(error)),
    );
    return { send, close: () => stream.end() };
  }

  async *readBlob(digest: Uint8Array, offset: number, signal: AbortSignal): AsyncIterable<BlobChunk> {
    const request = { digest, offset: BigInt(offset) };
    for await (const chunk of this.#channel.serverStream(AgentService.method.download, request, { signal })) {
      yield { offset: Number(chunk.offset), totalSize: Number(chunk.totalSize), data: chunk.data };
    }
  }

  updateStatus(updateId: Uint8Array): Promise<GetUpdateStatusResponse> {
    return this.#channel.unary(AgentService.method.getUpdateStatus, { updateId }, { signal: this.#closed.signal });
  }

  async submit(header: UpdateHeader, payload: Uint8Array, from: number): Promise<SubmitUpdateResponse> {
    const stream = this.#channel.clientStream(AgentService.method.submitUpdate, {
      deadlineMs: SUBMIT_DEADLINE_MS,
      signal: this.#closed.signal,
    });
    let answered = false;
    const answer = stream.response.finally(() => (answered = true));
    // The answer may come early, with a refusal; it is awaited at the end.
    answer.catch(() => undefined);
    for (let offset = from; offset < payload.length && !answered; offset += UPLOAD_CHUNK_BYTES) {
      const data = payload.subarray(offset, offset + UPLOAD_CHUNK_BYTES);
      await stream.write({ offset: BigInt(offset), data, ...(offset === from ? { header } : {}) });
    }
    return answered ? answer : stream.finish();
  }

  async rest(): Promise<void> {
    this.reconnect();
  }

  reconnect(): void {
    for (const cut of this.#open.values()) cut();
    this.#channel.close();
    this.#channel = openGrpcChannel(this.#url);
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await Promise.race([Promise.all(this.#open.keys()), sleep(END_MS)]);
    // A call that is open would keep the connection, and the connection the process.
    for (const cut of this.#open.values()) cut();
    this.#channel.close();
  }
}
