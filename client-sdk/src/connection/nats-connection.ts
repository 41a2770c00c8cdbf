import { connect, errors, type NatsConnection } from '@nats-io/transport-node';
import { openNatsBy } from './nats-open.ts';
import type { OpenNatsOptions } from './nats-request.ts';
import { saysUnreached as systemSaysUnreached } from './unreached.ts';
import { requireLoopback } from './url.ts';

/** Connects to `nats://127.0.0.1:PORT` or one of several, now or when the server is there, and stays connected for ever. */
export function openNats(url: string, options: OpenNatsOptions = {}): Promise<NatsConnection> {
  const servers = requireLoopback(url).addresses.map(({ host, port }) => `${host}:${port}`);
  return openNatsBy({ connect, saysUnreached }, url, servers, options);
}

/** The client ends a try itself where the system is slow to. */
const saysUnreached = (error: unknown): boolean => error instanceof errors.TimeoutError || systemSaysUnreached(error);
