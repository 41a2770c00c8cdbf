import { join } from 'node:path';
import { equalBytes } from '@commonweight/proto';
import { systemClock } from '../clock.ts';
import { serveAgents, type Listening } from '../edges/grpc/server.ts';
import { loopback } from '../edges/loopback.ts';
import type { AgentGate } from '../service.ts';
import { BlobCache } from './blob-cache.ts';
import { noFigures, type RelayFigures } from './figures.ts';
import { Relay } from './relay.ts';
import { RelaySpool } from './spool.ts';
import { serveRelayHttp } from './relay-http.ts';
import { Uplink } from './uplink.ts';

export interface RelayOptions {
  /** `grpc://HOST:PORT`, with `,HOST:PORT` for each further coordinator of one database. */
  coordinator: string;
  /** `host:port` where agents come; port 0 takes a free one. */
  grpc: string;
  /** `host:port` of health and metrics; none without it. */
  http?: string;
  /** Folder of updates and blobs. */
  dir: string;
  /** How long the first update of a part waits for others, in milliseconds. */
  waitMs?: number;
  /** The most that blobs may take of the disk. */
  cacheBytesMax?: number;
  /** The most that updates may take of it which have not ended. */
  spoolBytesMax?: number;
  log?: (line: string) => void;
}

/** A relay that serves. */
export interface RunningRelay {
  gate: AgentGate;
  grpcPort: number;
  httpPort: number | undefined;
  figures(): RelayFigures;
  /** Sends up what is here, ends the sessions and closes the folder, within a few seconds. */
  close(): Promise<void>;
}

const WAIT_MS = 2_000;
const GIB = 2 ** 30;

/** Opens a relay's folder and serves agents, whether the coordinator is there or not. Throws ConfigError, StoreError or an Error that names the port. */
export async function startRelay({
  coordinator,
  grpc,
  http,
  dir,
  waitMs = WAIT_MS,
  cacheBytesMax = 4 * GIB,
  spoolBytesMax = 4 * GIB,
  log = () => {},
}: RelayOptions): Promise<RunningRelay> {
  const [grpcAddress, httpAddress] = [
    loopback(grpc, '--grpc'),
    http === undefined ? undefined : loopback(http, '--http'),
  ];
  const spool = RelaySpool.open(dir, spoolBytesMax);
  const figures = noFigures();
  const edges: Listening[] = [];
  let isForeign = false;
  const uplink: Uplink = new Uplink(coordinator, {
    trusts: (publicKey) => {
      const known = spool.publicKey ?? publicKey;
      if (spool.publicKey === undefined) spool.setPublicKey(publicKey);
      const isKnown = equalBytes(known, publicKey);
      if (!isKnown && !isForeign)
        log(`${coordinator} signs with another key than before: if that is meant, remove ${dir} and start again`);
      isForeign = !isKnown;
      return isKnown;
    },
    onUp: () => {
      log(`uplink to ${coordinator} is there`);
      relay.reached();
    },
    onDown: (why) => log(`uplink is away (${why}): agents stay, and their updates are kept`),
  });
  const blobs = new BlobCache({
    dir: join(dir, 'blobs'),
    bytesMax: cacheBytesMax,
    fetch: (digest) => uplink.download(digest),
    onFetched: (bytes) => (figures.blobBytesFetched += bytes),
  });
  const relay: Relay = new Relay({ uplink, spool, blobs, figures, dir, waitMs, clock: systemClock, log });
  const now = (): RelayFigures => ({ ...figures, kept: relay.kept });
  const close = async (): Promise<void> => {
    await relay.close();
    await Promise.all(edges.map((edge) => edge.close()));
    uplink.close();
    await blobs.close();
    spool.close();
  };
  try {
    if (relay.kept > 0) log(`${relay.kept} updates are here from before`);
    const why = await uplink.start();
    if (why !== undefined) log(`${coordinator} is not there yet (${why}): agents may come, and are invited once it is`);
    const agents = await serveAgents(relay, grpcAddress);
    edges.push(agents);
    const health = httpAddress === undefined ? undefined : await serveRelayHttp(httpAddress, now, () => uplink.isUp);
    if (health !== undefined) edges.push(health);
    return { gate: relay, grpcPort: agents.port, httpPort: health?.port, figures: now, close };
  } catch (error) {
    await close();
    throw error;
  }
}
