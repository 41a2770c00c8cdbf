import type { IncomingMessage } from 'node:http';
import type { ByteBudget } from '../byte-budget.ts';
import { ServingError } from '../errors.ts';
import { JSON_BYTES_MAX } from '../limits.ts';
import { JSON_LENGTH_HEADER } from './codec.ts';
import { smallerJson } from './read-json.ts';

/** A request's body, with what gives its bytes back to the budget. */
export interface Body {
  bytes: Uint8Array;
  release(): void;
}

/** What a path takes. */
export interface BodyLimit {
  bytesMax: number;
  /** Whether tensors may come in binary, behind the JSON. */
  takesBinary: boolean;
}

/** Bytes that a request's body may have: it is JSON alone, which may be less large, where no header says where the JSON ends. */
function bodyBytesMaxOf({ headers }: IncomingMessage, { bytesMax, takesBinary }: BodyLimit): number {
  return takesBinary && JSON_LENGTH_HEADER in headers ? bytesMax : Math.min(bytesMax, JSON_BYTES_MAX);
}

/** Throws ServingError before a byte is read where the body is announced as too large, or as compressed. */
export function checkHeaders(request: IncomingMessage, limit: BodyLimit): void {
  const { headers } = request;
  if (Number(headers['content-length'] ?? 0) > bodyBytesMaxOf(request, limit)) throw tooLarge(request, limit);
  const coding = headers['content-encoding'];
  if (coding !== undefined && coding !== 'identity') {
    throw new ServingError('wrong-coding', `a body in ${coding} is not taken: send it uncompressed`);
  }
}

/** Reads a body of at most so many bytes, or fewer of JSON alone. Throws ServingError. By events, because an iterator makes a dozen promises of a usual body. */
export function readBody(request: IncomingMessage, limit: BodyLimit, budget: ByteBudget): Promise<Body> {
  const { promise, resolve, reject } = Promise.withResolvers<Body>();
  const ownMax = bodyBytesMaxOf(request, limit);
  const announced = request.headers['content-length'];
  const releases: (() => void)[] = [];
  const release = (): void => {
    for (const each of releases.splice(0)) each();
  };
  const chunks: Uint8Array[] = [];
  let length = 0;
  const stop = (): void => void request.off('data', onData).off('end', onEnd).off('close', onClose);
  const fail = (error: unknown): void => {
    stop();
    // The connection stays: the refusal goes over it.
    request.pause();
    release();
    reject(error);
  };
  const onData = (chunk: Uint8Array): void => {
    length += chunk.length;
    if (length > ownMax) return fail(tooLarge(request, limit));
    chunks.push(chunk);
    if (announced === undefined) take(chunk.length);
  };
  const onEnd = (): void => {
    stop();
    resolve({ bytes: chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length), release });
  };
  const onClose = (): void => fail(new ServingError('cancelled', 'the body ended too early'));
  const take = (bytes: number): void => {
    try {
      releases.push(budget.take(bytes));
    } catch (error) {
      fail(error);
    }
  };
  request.on('data', onData).on('end', onEnd).on('close', onClose);
  if (announced !== undefined) take(Number(announced));
  return promise;
}

function tooLarge(request: IncomingMessage, limit: BodyLimit): ServingError {
  const ownMax = bodyBytesMaxOf(request, limit);
  return new ServingError(
    'too-large',
    ownMax < limit.bytesMax
      ? `the JSON is larger than ${ownMax} bytes: ${smallerJson(limit.takesBinary)}`
      : `the body is larger than ${ownMax} bytes: send fewer rows at once, or raise --body-max`,
  );
}
