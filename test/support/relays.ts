import { startRelay, type RelayOptions, type RunningRelay } from '../../coordinator/src/relay/start-relay.ts';
import { temporaryFolder } from './processes.ts';

/** A relay in this process before a coordinator's gRPC port, waiting for others only as long as a test would. */
export const relayBefore = (port: number, options: Partial<RelayOptions> = {}): Promise<RunningRelay> =>
  startRelay({
    coordinator: `grpc://127.0.0.1:${port}`,
    grpc: '127.0.0.1:0',
    dir: temporaryFolder('relay'),
    waitMs: 60_000,
    ...options,
  });
