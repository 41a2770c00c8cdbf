import type { ServiceErrorCode } from '../../service.ts';

/** The one place where our errors become HTTP's. */
export const statusCodes: Readonly<Record<ServiceErrorCode, number>> = {
  'not-found': 404,
  'already-exists': 409,
  invalid: 400,
  unavailable: 503,
  'resource-exhausted': 429,
};
