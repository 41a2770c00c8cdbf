import type { ConnectionOptions, NatsConnection } from '@nats-io/nats-core';
import { TransportError } from '../errors.ts';
import { Backoff, sleep } from './backoff.ts';
import { noteAway, type OpenNatsOptions } from './nats-request.ts';

const CONNECT_TIMEOUT_MS = 2000;
const PING_INTERVAL_MS = 5000;

/** Connects to `servers` by a platform's transport, now or when the server is there, and stays connected for ever. */
export async function openNatsBy(
  connect: (options: ConnectionOptions) => Promise<NatsConnection>,
  url: string,
  servers: string | string[],
  options: OpenNatsOptions = {},
): Promise<NatsConnection> {
  const { name = 'commonweight', signal, backoff = new Backoff(), onFailure } = options;
  for (;;) {
    try {
      const connection = await connect({
        servers,
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
        void notePresence(connection, backoff);
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

async function notePresence(connection: NatsConnection, backoff: Backoff): Promise<void> {
  for await (const { type } of connection.status()) {
    if (type === 'disconnect') noteAway(connection, true);
    if (type !== 'reconnect') continue;
    noteAway(connection, false);
    backoff.connected();
  }
}
