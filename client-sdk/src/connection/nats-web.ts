/** NATS as browsers have it: by WebSocket. */
import { wsconnect, type NatsConnection } from '@nats-io/nats-core';
import { openNatsBy } from './nats-open.ts';
import type { OpenNatsOptions } from './nats-request.ts';
import { requireLoopback } from './url.ts';

export { findCoordinator, isAway, natsRequest, NatsRequests } from './nats-request.ts';

/** Connects to `ws://127.0.0.1:PORT` of a NATS server, now or when it is there, and stays connected for ever. A browser does not say why it is not there. */
export function openNats(url: string, options: OpenNatsOptions = {}): Promise<NatsConnection> {
  requireLoopback(url);
  return openNatsBy({ connect: wsconnect, saysUnreached: () => true }, url, url, options);
}
