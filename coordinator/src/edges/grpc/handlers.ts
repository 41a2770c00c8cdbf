import type { handleServerStreamingCall, handleUnaryCall, ServerWritableStream } from '@grpc/grpc-js';
import { CHUNK_BYTES_MAX } from '@commonweight/proto';
import { ServiceError, type AgentGate } from '../../service.ts';
import { chunkTurn } from '../pace.ts';
import { toGrpc } from './status.ts';

/** A unary handler from an async function. */
export function unary<I, O>(answer: (request: I) => Promise<O>): handleUnaryCall<I, O> {
  return (call, callback) => {
    answer(call.request).then(
      (response) => callback(null, response),
      (error: unknown) => callback(toGrpc(error)),
    );
  };
}

/** A streaming handler from an async function that writes. An error ends the stream with its status. */
export function streaming<I, O>(
  answer: (call: ServerWritableStream<I, O>) => Promise<void>,
): handleServerStreamingCall<I, O> {
  return (call) => {
    answer(call).then(
      () => call.end(),
      (error: unknown) => fail(call, error),
    );
  };
}

/** Ends a stream with the status of an error. `destroy` would send no status, and the other side would wait for ever. */
export function fail(call: { emit(event: 'error', error: Error): unknown }, error: unknown): void {
  call.emit('error', toGrpc(error));
}

interface Writable<O> {
  write(message: O): boolean;
  once(event: 'drain' | 'close' | 'cancelled', listener: () => void): unknown;
  cancelled: boolean;
}

/** Writes and waits until there is room for more, so that a slow reader costs no memory. */
export async function written<O>(call: Writable<O>, message: O): Promise<void> {
  if (call.write(message) || call.cancelled) return;
  await new Promise<void>((resolve) => {
    call.once('drain', resolve);
    call.once('close', resolve);
    call.once('cancelled', resolve);
  });
}

/** What both services' download requests have in common. */
interface DownloadRequest {
  digest: Uint8Array;
  offset: bigint;
  length: bigint;
}

/** Streams a blob from an offset in chunks. */
export function download<I extends DownloadRequest, O>(
  service: Pick<AgentGate, 'readBlob' | 'addBytes'>,
  toMessage: (chunk: { offset: bigint; totalSize: bigint; data: Uint8Array }) => O,
): handleServerStreamingCall<I, O> {
  return streaming(async (call) => {
    const { digest, length } = call.request;
    let offset = Number(call.request.offset);
    let left = length === 0n ? Infinity : Number(length);
    for (;;) {
      await chunkTurn();
      const { data, totalSize } = await service.readBlob(digest, offset, Math.min(left, CHUNK_BYTES_MAX));
      await written(call, toMessage({ offset: BigInt(offset), totalSize: BigInt(totalSize), data }));
      service.addBytes('down', undefined, data.length);
      offset += data.length;
      left -= data.length;
      if (offset >= totalSize || left <= 0 || data.length === 0 || call.cancelled) return;
    }
  });
}

/** Streams what a watch tells, the latest only: a slow reader skips what is out of date. */
export function latest<I, O>(
  closing: AbortSignal,
  watch: (request: I, tell: (message: O) => void) => Promise<() => void>,
): handleServerStreamingCall<I, O> {
  return streaming(async (call) => {
    let newest: O | undefined;
    let wake = (): void => {};
    const stop = await watch(call.request, (message) => {
      newest = message;
      wake();
    });
    call.once('cancelled', () => wake());
    call.once('close', () => wake());
    const close = (): void => fail(call, new ServiceError('unavailable', 'the coordinator is stopping'));
    closing.addEventListener('abort', close, { once: true });
    try {
      while (!call.cancelled && call.writable) {
        if (newest === undefined) {
          await new Promise<void>((resolve) => (wake = resolve));
          continue;
        }
        const message = newest;
        newest = undefined;
        await written(call, message);
      }
    } finally {
      closing.removeEventListener('abort', close);
      stop();
    }
  });
}
