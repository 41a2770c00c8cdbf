import { WorkerLostError } from '@commonweight/client-sdk';
import { MESSAGE_LENGTH_MAX } from './limits.ts';

/** Why a request got no prediction. Each is a label of the error counter. */
export type Reason =
  | 'bad-json'
  | 'bad-request'
  | 'wrong-input'
  | 'wrong-output'
  | 'unknown-model'
  | 'unknown-version'
  | 'unknown-path'
  | 'wrong-method'
  | 'wrong-coding'
  | 'foreign'
  | 'too-large'
  | 'queue-full'
  | 'not-ready'
  | 'cancelled'
  | 'not-finite'
  | 'no-gradient'
  | 'internal';

/** HTTP's code, and gRPC's by number (https://grpc.github.io/grpc/core/md_doc_statuscodes.html). */
interface Codes {
  http: number;
  grpc: number;
}

const INVALID_ARGUMENT = 3;
const NOT_FOUND = 5;
const PERMISSION_DENIED = 7;
const RESOURCE_EXHAUSTED = 8;
const UNIMPLEMENTED = 12;
const INTERNAL = 13;
const UNAVAILABLE = 14;
const CANCELLED = 1;

const CODES: Readonly<Record<Reason, Codes>> = {
  'bad-json': { http: 400, grpc: INVALID_ARGUMENT },
  'bad-request': { http: 400, grpc: INVALID_ARGUMENT },
  'wrong-input': { http: 400, grpc: INVALID_ARGUMENT },
  'wrong-output': { http: 400, grpc: INVALID_ARGUMENT },
  'unknown-model': { http: 404, grpc: NOT_FOUND },
  'unknown-version': { http: 404, grpc: NOT_FOUND },
  'unknown-path': { http: 404, grpc: UNIMPLEMENTED },
  'wrong-method': { http: 405, grpc: UNIMPLEMENTED },
  'wrong-coding': { http: 415, grpc: UNIMPLEMENTED },
  foreign: { http: 403, grpc: PERMISSION_DENIED },
  'too-large': { http: 413, grpc: RESOURCE_EXHAUSTED },
  'queue-full': { http: 429, grpc: UNAVAILABLE },
  'not-ready': { http: 503, grpc: UNAVAILABLE },
  cancelled: { http: 499, grpc: CANCELLED },
  // The numbers that came overflow the model, or the model is broken; either way JSON has no word for the answer.
  'not-finite': { http: 422, grpc: INVALID_ARGUMENT },
  'no-gradient': { http: 422, grpc: INVALID_ARGUMENT },
  internal: { http: 500, grpc: INTERNAL },
};

/** Seconds after which a full queue is worth another try. */
export const RETRY_AFTER_S = 1;

/** A request that gets no prediction; the message names the cause and the mend. */
export class ServingError extends Error {
  override name = 'ServingError';
  readonly reason: Reason;

  constructor(reason: Reason, message: string, options?: ErrorOptions) {
    super(message.length > MESSAGE_LENGTH_MAX ? `${message.slice(0, MESSAGE_LENGTH_MAX)}…` : message, options);
    this.reason = reason;
  }

  get codes(): Codes {
    return CODES[this.reason];
  }

  /** Whether the same request may do later. */
  get passing(): boolean {
    return this.reason === 'queue-full' || this.reason === 'not-ready';
  }
}

/** Anything thrown, as what the asker is told. */
export function asServingError(thrown: unknown): ServingError {
  if (thrown instanceof ServingError) return thrown;
  const reason = thrown instanceof WorkerLostError ? 'not-ready' : 'internal';
  return new ServingError(reason, `the prediction failed: ${(thrown as Error).message}`, { cause: thrown });
}

/** Foreign text, cut to what a message can hold. */
export const quoted = (text: string): string => `'${text.length > 64 ? `${text.slice(0, 64)}…` : text}'`;
