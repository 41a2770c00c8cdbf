import type { DescMessage, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { COORDINATOR_FIND_SUBJECT, ERROR_HEADER, FoundCoordinatorSchema, ofReplica } from '@commonweight/proto';
import { errors, type Msg, type NatsConnection } from '@nats-io/nats-core';
import { TransportError, type TransportCode } from '../errors.ts';
import type { Backoff } from './backoff.ts';

export interface OpenNatsOptions {
  /** Shown in the server's list of connections. */
  name?: string;
  /** Ends the wait for a first connection. */
  signal?: AbortSignal;
  backoff?: Backoff;
  /** Each failed try at the first connection. */
  onFailure?: (error: TransportError) => void;
}

/** Connections that have lost their server for now. */
const away = new WeakSet<NatsConnection>();

export function noteAway(connection: NatsConnection, isAway: boolean): void {
  if (isAway) away.add(connection);
  else away.delete(connection);
}

/** Whether nothing said now would reach a server: the client would keep it, without limit, until there is one. */
export const isAway = (connection: NatsConnection): boolean => away.has(connection) || connection.isClosed();

const REQUEST_TIMEOUT_MS = 10_000;
/** For one that the server chose: another is asked after it. */
const FIRST_TIMEOUT_MS = 5_000;
const FIND_TIMEOUT_MS = 2_000;

/** One protobuf request and its reply; a reply with an error header is thrown as TransportError. */
export async function natsRequest<I extends DescMessage, O extends DescMessage>(
  connection: NatsConnection,
  subject: string,
  schemas: { input: I; output: O },
  request: MessageInitShape<I>,
  timeoutMs: number = REQUEST_TIMEOUT_MS,
): Promise<MessageShape<O>> {
  let reply: Msg;
  if (isAway(connection)) throw new TransportError('unavailable', 'the NATS server is away', { unreached: true });
  try {
    const payload = toBinary(schemas.input, create(schemas.input, request));
    reply = await connection.request(subject, payload, { timeout: timeoutMs });
  } catch (cause) {
    throw fromNats(cause as Error, subject);
  }
  const refusal = reply.headers?.get(ERROR_HEADER);
  if (refusal) throw fromHeader(refusal);
  return fromBinary(schemas.output, reply.data, { readUnknownFields: false });
}

/** The replica that is the first to say that it lives; throws TransportError where none does. */
export async function findCoordinator(connection: NatsConnection): Promise<string> {
  if (isAway(connection)) throw new TransportError('unavailable', 'the NATS server is away', { unreached: true });
  try {
    const { data } = await connection.request(COORDINATOR_FIND_SUBJECT, undefined, { timeout: FIND_TIMEOUT_MS });
    return fromBinary(FoundCoordinatorSchema, data, { readUnknownFields: false }).replica;
  } catch (cause) {
    throw fromNats(cause as Error, COORDINATOR_FIND_SUBJECT);
  }
}

/**
 * Requests over one connection that any replica may answer. The server chooses one, and goes on giving a share to those that
 * hang; where one does not answer, all that follows goes to one that lives.
 */
export class NatsRequests {
  readonly #connection: NatsConnection;
  /** '' where the server chooses. */
  #replica = '';

  constructor(connection: NatsConnection) {
    this.#connection = connection;
  }

  /** One request, and once more to another replica where the first does not answer. */
  async ask<I extends DescMessage, O extends DescMessage>(
    subject: string,
    schemas: { input: I; output: O },
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    const asked = this.#replica;
    try {
      const timeoutMs = asked === '' ? FIRST_TIMEOUT_MS : REQUEST_TIMEOUT_MS;
      return await natsRequest(this.#connection, ofReplica(subject, asked), schemas, request, timeoutMs);
    } catch (error) {
      const code = error instanceof TransportError && !isAway(this.#connection) ? error.code : undefined;
      // One that was asked by itself may have ended since: the server has others.
      const hasEnded = code === 'unavailable' && asked !== '';
      if (code !== 'deadline' && !hasEnded) throw error;
      // Unless another request has found one meanwhile.
      if (this.#replica === asked)
        this.#replica = hasEnded ? '' : await findCoordinator(this.#connection).catch(() => '');
      if (this.#replica === asked) throw error;
    }
    return natsRequest(this.#connection, ofReplica(subject, this.#replica), schemas, request);
  }
}

const CODES: readonly string[] = [
  'not-found',
  'already-exists',
  'invalid',
  'unavailable',
  'resource-exhausted',
] satisfies TransportCode[];

function fromHeader(refusal: string): TransportError {
  const [code = '', ...words] = refusal.split(' ');
  return CODES.includes(code)
    ? new TransportError(code as TransportCode, words.join(' '))
    : new TransportError('internal', refusal);
}

function fromNats(cause: Error, subject: string): TransportError {
  if (cause instanceof errors.TimeoutError) {
    return new TransportError('deadline', `no answer to ${subject} in time`, { cause });
  }
  // The NATS server answers for nobody, for which it needs nobody.
  return new TransportError('unavailable', `nobody answers ${subject}: ${cause.message}`, { cause, unreached: true });
}
