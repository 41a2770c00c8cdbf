import type { Nats } from './load-nats.ts';

/** The NATS client is as large as the rest of the SDK, so only who uses it loads it. */
export const loadNats = (): Promise<Nats> => import('./nats-web.ts');
