import type { Sha256 } from '../platform/platform.ts';
import type { ModelLink } from './model-link.ts';
import { NatsModelLink } from './nats-model-link.ts';
import { openNats } from './nats-web.ts';

/** Models over NATS by WebSocket, as browsers have it: `ws://127.0.0.1:PORT` of a NATS server. */
export const openNatsWebLink = (url: string, sha256: Sha256): ModelLink =>
  new NatsModelLink(url, { sha256, open: openNats });
