/** NATS as Node has it. */
export { openNats } from './nats-connection.ts';
export { findCoordinator, isAway, natsRequest, NatsRequests } from './nats-request.ts';
