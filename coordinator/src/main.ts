import { ConfigError } from '@commonweight/core';
import { openCoordinator } from './coordinator.ts';
import { serveGrpc } from './edges/grpc/server.ts';
import { serveHttp } from './edges/http/server.ts';
import { loopback } from './edges/loopback.ts';
import { serveNats } from './edges/nats/server.ts';
import type { KeepVersions } from './registry/collector.ts';
import { loadStrategy } from './strategies/load-strategy.ts';
import type { BackupSchedule } from './store/scheduled-backups.ts';
import type { CoordinatorService } from './service.ts';

export interface StartOptions {
  dataDir: string;
  /** `host:port`; port 0 takes a free one. */
  grpc: string;
  http: string;
  /** `nats://host:port`; without it agents come by gRPC only. */
  nats?: string;
  /** The most that the database may take of the disk. */
  diskBytesMax?: number;
  /** How many versions of each model are kept whole; without it, all. */
  keepVersions?: KeepVersions;
  /** How long what a channel says holds; it is said anew when half of that is over. */
  channelLifetimeMs?: number;
  /** Over how long what clients report is summed up; six of these count. */
  reportWindowMs?: number;
  /** Copies of the data folder, made while it is in use. */
  backups?: BackupSchedule;
  /** `postgres://127.0.0.1:port/database`: where the versions are, for any number of coordinators, of which one leads and all work. */
  postgres?: string;
  /** Origins of pages that may read models over HTTP, such as `https://app.example`; those of this machine always may. `*` is all. */
  origins?: readonly string[];
  /** Files of users' own strategies, see loadStrategy. */
  strategies?: readonly string[];
  /** Another one leads, and this one shares its work. */
  onFollowing?: (leader: string) => void;
  /** This one leads from now on. */
  onLeading?: (epoch: number) => void;
  /** Agents that may be there at once; more are told when to come back. */
  sessionsMax?: number;
  log?: (line: string) => void;
}

/** A coordinator that serves. */
export interface RunningCoordinator {
  service: CoordinatorService;
  grpcPort: number;
  httpPort: number;
  /** Rejects when the store fails for good: the process is to end. */
  failed: Promise<never>;
  /** Ends what is under way within a few seconds and closes the store. */
  close(): Promise<void>;
}

/** Opens the data folder and all edges. Throws ConfigError, StoreError or an Error that names the port. */
export async function startCoordinator(options: StartOptions): Promise<RunningCoordinator> {
  const { grpc, http, nats, log = () => {}, strategies = [], origins = [], ...store } = options;
  requireOrigins(origins);
  const [grpcAddress, httpAddress] = [loopback(grpc, '--grpc'), loopback(http, '--http')];
  for (const one of nats?.replace(/^nats:\/\//, '').split(',') ?? []) loopback(one, '--nats');
  for (const path of strategies) {
    const { label, file } = await loadStrategy(path);
    log(`strategy ${label} from ${file}`);
  }
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {});
  const service = await openCoordinator({ ...store, log, onFatal: failure.reject });
  const edges: { close(): Promise<void> }[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(edges.map((edge) => edge.close()));
    await service.close();
  };
  try {
    const http = await serveHttp(service, { ...httpAddress, origins });
    edges.push(http);
    if (nats !== undefined) edges.push(await serveNats(service, { url: nats, log }));
    const grpc = await serveGrpc(service, grpcAddress);
    edges.push(grpc);
    await service.advertise(
      `${grpcAddress.host.includes(':') ? `[${grpcAddress.host}]` : grpcAddress.host}:${grpc.port}`,
    );
    return { service, grpcPort: grpc.port, httpPort: http.port, failed: failure.promise, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Throws ConfigError where one is no origin: a browser would send another, and the page would be refused without a word. */
function requireOrigins(origins: readonly string[]): void {
  for (const origin of origins) {
    if (origin === '*' || (/^https?:/.test(origin) && URL.canParse(origin) && new URL(origin).origin === origin))
      continue;
    const example = 'scheme, host and port as browsers send them, such as https://app.example, or *';
    throw new ConfigError(`--http-origin ${origin} is not an origin: give ${example}`, '--http-origin');
  }
}
