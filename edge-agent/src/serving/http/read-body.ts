import type { IncomingMessage } from 'node:http';
import type { ByteBudget } from '../byte-budget.ts';
import { ServingError } from '../errors.ts';

/** A request's body, with what gives its bytes back to the budget. */
export interface Body {
  bytes: Uint8Array;
  release(): void;
}

/** Throws ServingError before a byte is read where the body is announced as too large, or as compressed. */
export function checkHeaders({ headers }: IncomingMessage, bytesMax: number): void {
  if (Number(headers['content-length'] ?? 0) > bytesMax) throw tooLarge(bytesMax);
  const coding = headers['content-encoding'];
  if (coding !== undefined && coding !== 'identity') {
    throw new ServingError('wrong-coding', `a body in ${coding} is not taken: send it uncompressed`);
  }
}

/** Reads a body of at most so many bytes. Throws ServingError. */
export async function readBody(request: IncomingMessage, bytesMax: number, budget: ByteBudget): Promise<Body> {
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
      if (length > bytesMax) throw tooLarge(bytesMax);
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

const tooLarge = (bytesMax: number): ServingError =>
  new ServingError(
    'too-large',
    `the body is larger than ${bytesMax} bytes: send fewer rows at once, or raise --body-max`,
  );
