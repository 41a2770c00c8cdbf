import type { DescMessage, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { ERROR_HEADER } from '@commonweight/proto';
import { connect, errors, type Msg, type NatsConnection } from '@nats-io/transport-node';
import { TransportError, type TransportCode } from '../errors.ts';
import { Backoff, sleep } from './backoff.ts';
import { requireLoopback } from './url.ts';

export interface OpenNatsOptions {
  /** Shown in the server's list of connections. */
  name?: string;
  /** Ends the wait for a first connection. */
  signal?: AbortSignal;
  backoff?: Backoff;
  /** Each failed try at the first connection. */
  onFailure?: (error: TransportError) => void;
}

const CONNECT_TIMEOUT_MS = 2000;
const PING_INTERVAL_MS = 5000;

/** Connects to `nats://127.0.0.1:PORT`, now or when the server is there, and stays connected for ever. */
export async function openNats(url: string, options: OpenNatsOptions = {}): Promise<NatsConnection> {
  const { host, port } = requireLoopback(url);
  const { name = 'commonweight', signal, backoff = new Backoff(), onFailure } = options;
  for (;;) {
    try {
      const connection = await connect({
        servers: `${host}:${port}`,
        name,
        ignoreClusterUpdates: true,
        // The client's own limit of ten tries closes it for good after 20 s.
        maxReconnectAttempts: -1,
        reconnectDelayHandler: onePerAttempt(backoff),
        timeout: CONNECT_TIMEOUT_MS,
        pingInterval: PING_INTERVAL_MS,
        maxPingOut: 2,
      });
      backoff.connected();
      if (signal?.aborted !== true) {
        void noteReconnects(connection, backoff);
        return connection;
      }
      await connection.close();
    } catch (cause) {
      onFailure?.(new TransportError('unavailable', `cannot reach ${url}: ${(cause as Error).message}`, { cause }));
    }
    if (signal?.aborted !== true) await sleep(backoff.nextMs(), signal);
    if (signal?.aborted === true) throw new TransportError('cancelled', `the connection to ${url} was given up`);
  }
}

/** The client asks for the wait several times an attempt; drawn anew each time, the bound would run off to its maximum. */
function onePerAttempt(backoff: Backoff): () => number {
  let dueAtMs: number | undefined;
  return () => {
    const nowMs = performance.now();
    dueAtMs ??= nowMs + backoff.nextMs();
    const leftMs = dueAtMs - nowMs;
    if (leftMs > 0) return Math.ceil(leftMs);
    dueAtMs = undefined;
    return 0;
  };
}

async function noteReconnects(connection: NatsConnection, backoff: Backoff): Promise<void> {
  for await (const { type } of connection.status()) if (type === 'reconnect') backoff.connected();
}

const REQUEST_TIMEOUT_MS = 10_000;

/** One protobuf request and its reply; a reply with an error header is thrown as TransportError. */
export async function natsRequest<I extends DescMessage, O extends DescMessage>(
  connection: NatsConnection,
  subject: string,
  schemas: { input: I; output: O },
  request: MessageInitShape<I>,
  timeoutMs: number = REQUEST_TIMEOUT_MS,
): Promise<MessageShape<O>> {
  let reply: Msg;
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
  return new TransportError('unavailable', `nobody answers ${subject}: ${cause.message}`, { cause });
}
