import type * as OfNode from './nats-node.ts';

/** What agents use of NATS, on any platform. */
export type Nats = typeof OfNode;

export const loadNats = (): Promise<Nats> => import('./nats-node.ts');
