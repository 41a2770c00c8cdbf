import type { ConnectionOptions, NatsConnection } from '@nats-io/nats-core';
import { TransportError } from '../errors.ts';
import { Backoff, type FailedTry } from './backoff.ts';
import { noteAway, type OpenNatsOptions } from './nats-request.ts';

const CONNECT_TIMEOUT_MS = 2000;
const PING_INTERVAL_MS = 5000;

export interface NatsTransport {
  connect: (options: ConnectionOptions) => Promise<NatsConnection>;
  /** Whether an error of `connect` says that nothing answered. */
  saysUnreached: (error: unknown) => boolean;
}

/** Connects to `servers` by a platform's transport, now or when the server is there, and stays connected for ever. */
export async function openNatsBy(
  { connect, saysUnreached }: NatsTransport,
  url: string,
  servers: string | string[],
  options: OpenNatsOptions = {},
): Promise<NatsConnection> {
  const { name = 'commonweight', signal, backoff = new Backoff(), onFailure } = options;
  const refusal: Refusal = { wasHeard: false };
  for (;;) {
    let failure: FailedTry = {};
    try {
      const connection = await connect({
        servers,
        name,
        ignoreClusterUpdates: true,
        // The client's own limit of ten tries closes it for good after 20 s.
        maxReconnectAttempts: -1,
        reconnectDelayHandler: onePerAttempt(backoff, refusal),
        timeout: CONNECT_TIMEOUT_MS,
        pingInterval: PING_INTERVAL_MS,
        maxPingOut: 2,
      });
      backoff.connected();
      if (signal?.aborted !== true) {
        void notePresence(connection, backoff, refusal);
        return connection;
      }
      await connection.close();
    } catch (cause) {
      const error = new TransportError('unavailable', `cannot reach ${url}: ${(cause as Error).message}`, {
        cause,
        unreached: saysUnreached(cause),
      });
      failure = error;
      onFailure?.(error);
    }
    if (signal?.aborted !== true) await backoff.wait(failure, signal);
    if (signal?.aborted === true) throw new TransportError('cancelled', `the connection to ${url} was given up`);
  }
}

/** Whether the server said no since the last try, as one does that has too many clients. */
interface Refusal {
  wasHeard: boolean;
}

/** The client asks for the wait several times an attempt; drawn anew each time, the bound would run off to its maximum. */
function onePerAttempt(backoff: Backoff, refusal: Refusal): () => number {
  let dueAtMs: number | undefined;
  return () => {
    const nowMs = performance.now();
    dueAtMs ??= nowMs + backoff.nextMs({ unreached: !refusal.wasHeard });
    refusal.wasHeard = false;
    const leftMs = dueAtMs - nowMs;
    if (leftMs > 0) return Math.ceil(leftMs);
    dueAtMs = undefined;
    return 0;
  };
}

async function notePresence(connection: NatsConnection, backoff: Backoff, refusal: Refusal): Promise<void> {
  for await (const { type } of connection.status()) {
    if (type === 'error') refusal.wasHeard = true;
    if (type === 'disconnect') noteAway(connection, true);
    if (type !== 'reconnect') continue;
    noteAway(connection, false);
    backoff.connected();
  }
}
