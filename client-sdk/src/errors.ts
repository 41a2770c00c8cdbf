import type { Fault } from './reports/use-counts.ts';

/** What went wrong between this process and the coordinator, in one vocabulary for every link. */
export type TransportCode =
  | 'unavailable'
  | 'deadline'
  | 'cancelled'
  | 'not-found'
  | 'already-exists'
  | 'invalid'
  | 'resource-exhausted'
  | 'corrupted'
  | 'internal';

const PASSING: readonly TransportCode[] = ['unavailable', 'deadline', 'resource-exhausted', 'corrupted', 'internal'];

/** What else is known of a TransportError. */
export interface TransportErrorOptions extends ErrorOptions {
  unreached?: boolean;
  retryAfterMs?: number;
}

/** The coordinator could not be reached, or refused. `passing` ones are worth another try. */
export class TransportError extends Error {
  override name = 'TransportError';
  readonly code: TransportCode;
  /** Nothing answered at all: a try costs no server anything. */
  readonly unreached: boolean;
  /** How long the other side asked to be left alone; 0 where it did not. */
  readonly retryAfterMs: number;

  constructor(
    code: TransportCode,
    message: string,
    { unreached = false, retryAfterMs = 0, ...options }: TransportErrorOptions = {},
  ) {
    super(message, options);
    this.code = code;
    this.unreached = unreached;
    this.retryAfterMs = retryAfterMs;
  }

  get passing(): boolean {
    return PASSING.includes(this.code);
  }
}

/** Whether a try ended without an answer of anybody, as the link knows it. */
export const isUnreached = (error: unknown): boolean => error instanceof TransportError && error.unreached;

/** A release must not be believed: another key, a wrong signature, an older version. */
export class TrustError extends Error {
  override name = 'TrustError';
}

/** A model cannot be loaded, warmed up or used as it was asked to. */
export class ModelError extends Error {
  override name = 'ModelError';
  /** What is wrong with the version, where it is the version's. */
  readonly fault: Fault | undefined;

  constructor(message: string, { fault, ...options }: ErrorOptions & { fault?: Fault } = {}) {
    super(message, options);
    this.fault = fault;
  }
}

/** The worker that held the model ended; the model is loaded again. */
export class WorkerLostError extends ModelError {
  override name = 'WorkerLostError';
}

/** The model's answers have no gradients by which they could be explained. */
export class ExplainError extends ModelError {
  override name = 'ExplainError';
}

/** A release would break the app that it is offered to. */
export class ContractError extends ModelError {
  override name = 'ContractError';
}

/** The given inputs do not fit the model's contract. */
export class InputError extends Error {
  override name = 'InputError';
}

/** Anything thrown, as an Error. */
export const asError = (thrown: unknown): Error => (thrown instanceof Error ? thrown : new Error(String(thrown)));
