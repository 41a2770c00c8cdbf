import { asError, openGrpcChannel, type BlobChunk, type GrpcChannel } from '@commonweight/client-sdk';
import {
  AgentService,
  CHUNK_BYTES_MAX,
  type GetUpdateStatusResponse,
  type Hello,
  type SubmitUpdateResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import type { AgentLink, OpenSession, SessionListener, SessionMessage } from './agent-link.ts';

const SUBMIT_DEADLINE_MS = 600_000;

export class GrpcAgentLink implements AgentLink {
  readonly kind = 'grpc';
  readonly #channel: GrpcChannel;

  constructor(url: string) {
    this.#channel = openGrpcChannel(url);
  }

  openSession(hello: Hello, { onMessage, onClosed }: SessionListener): OpenSession {
    const { sessionId } = hello;
    const stream = this.#channel.bidi(AgentService.method.session);
    // What cannot be written was said on a session that is breaking; its end is told by the iteration below.
    const send = (message: SessionMessage): void => void stream.write({ sessionId, message }).catch(() => undefined);
    send({ case: 'hello', value: hello });
    const read = async (): Promise<void> => {
      for await (const message of stream) onMessage(message);
    };
    read().then(
      () => onClosed('the coordinator ended the session'),
      (error: unknown) => onClosed(asError(error).message),
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
    return this.#channel.unary(AgentService.method.getUpdateStatus, { updateId });
  }

  async submit(header: UpdateHeader, payload: Uint8Array, from: number): Promise<SubmitUpdateResponse> {
    const stream = this.#channel.clientStream(AgentService.method.submitUpdate, { deadlineMs: SUBMIT_DEADLINE_MS });
    let answered = false;
    const answer = stream.response.finally(() => (answered = true));
    // The answer may come early, with a refusal; it is awaited at the end.
    answer.catch(() => undefined);
    for (let offset = from; offset < payload.length && !answered; offset += CHUNK_BYTES_MAX) {
      const data = payload.subarray(offset, offset + CHUNK_BYTES_MAX);
      await stream.write({ offset: BigInt(offset), data, ...(offset === from ? { header } : {}) });
    }
    return answered ? answer : stream.finish();
  }

  async close(): Promise<void> {
    this.#channel.close();
  }
}
