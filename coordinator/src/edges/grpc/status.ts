import { Metadata, status, type ServerErrorResponse } from '@grpc/grpc-js';
import { ERROR_LENGTH_MAX, ServiceError, type ServiceErrorCode } from '../../service.ts';
import { StoreError } from '../../store/store.ts';

const CODES: Record<ServiceErrorCode, status> = {
  'not-found': status.NOT_FOUND,
  'already-exists': status.ALREADY_EXISTS,
  invalid: status.INVALID_ARGUMENT,
  unavailable: status.UNAVAILABLE,
  'resource-exhausted': status.RESOURCE_EXHAUSTED,
};

/** The one place where our errors become gRPC's. */
export function toGrpc(error: unknown): Partial<ServerErrorResponse> & Error {
  const message = (error as Error).message.slice(0, ERROR_LENGTH_MAX);
  return Object.assign(new Error(message), { code: codeOf(error), details: message, metadata: new Metadata() });
}

function codeOf(error: unknown): status {
  if (error instanceof ServiceError) return CODES[error.code];
  if (error instanceof StoreError) return error.kind === 'collected' ? status.NOT_FOUND : status.UNAVAILABLE;
  return status.INTERNAL;
}
