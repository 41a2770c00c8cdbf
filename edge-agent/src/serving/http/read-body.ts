import type { IncomingMessage } from 'node:http';
import type { ByteBudget } from '../byte-budget.ts';
import { ServingError } from '../errors.ts';
import { JSON_BYTES_MAX } from '../limits.ts';
import { JSON_LENGTH_HEADER } from './codec.ts';

/** A request's body, with what gives its bytes back to the budget. */
export interface Body {
  bytes: Uint8Array;
  release(): void;
}

/** Bytes that a request's body may have: it is JSON alone, which may be less large, where no header says where the JSON ends. */
function bodyBytesMaxOf({ headers }: IncomingMessage, bytesMax: number): number {
  return JSON_LENGTH_HEADER in headers ? bytesMax : Math.min(bytesMax, JSON_BYTES_MAX);
}

/** Throws ServingError before a byte is read where the body is announced as too large, or as compressed. */
export function checkHeaders(request: IncomingMessage, bytesMax: number): void {
  const { headers } = request;
  if (Number(headers['content-length'] ?? 0) > bodyBytesMaxOf(request, bytesMax)) throw tooLarge(request, bytesMax);
  const coding = headers['content-encoding'];
  if (coding !== undefined && coding !== 'identity') {
    throw new ServingError('wrong-coding', `a body in ${coding} is not taken: send it uncompressed`);
  }
}

/** Reads a body of at most so many bytes, or fewer of JSON alone. Throws ServingError. */
export async function readBody(request: IncomingMessage, bytesMax: number, budget: ByteBudget): Promise<Body> {
  const ownMax = bodyBytesMaxOf(request, bytesMax);
  const announced = request.headers['content-length'];
  const releases: (() => void)[] = [];
  const release = (): void => {
    for (const each of releases.splice(0)) each();
  };
  try {
    if (announced !== undefined) releases.push(budget.take(Number(announced)));
    const chunks: Uint8Array[] = [];
    let length = 0;
    // Leaving the loop must not end the connection: the refusal goes over it.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>) {
      length += chunk.length;
      if (length > ownMax) throw tooLarge(request, bytesMax);
      if (announced === undefined) releases.push(budget.take(chunk.length));
      chunks.push(chunk);
    }
    return { bytes: chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length), release };
  } catch (error) {
    release();
    throw error instanceof ServingError
      ? error
      : new ServingError('cancelled', 'the body ended too early', { cause: error });
  }
}

function tooLarge(request: IncomingMessage, bytesMax: number): ServingError {
  const ownMax = bodyBytesMaxOf(request, bytesMax);
  return new ServingError(
    'too-large',
    ownMax < bytesMax
      ? `the JSON is larger than ${ownMax} bytes: send large tensors as binary data`
      : `the body is larger than ${ownMax} bytes: send fewer rows at once, or raise --body-max`,
  );
}
