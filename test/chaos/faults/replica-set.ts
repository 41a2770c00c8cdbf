import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { PostgresServer } from '../../support/postgres.ts';
import { until } from '../../support/processes.ts';
import { TcpProxy } from '../../support/tcp-proxy.ts';
import { CoordinatorProcess } from './coordinator-process.ts';
import { pause } from './pause.ts';

const KEY = 'signing-key.pem';
const LOOK_MS = 200;
/** A replica that does not say within this that it lives gets no connections. */
const HEALTH_MS = 1_000;
const SUPERVISE_MS = 100;

/** Coordinators over one PostgreSQL database, each started again when it ends, behind one address that leads to those that answer. */
export class ReplicaSet {
  readonly replicas: readonly CoordinatorProcess[];
  readonly balancer: TcpProxy;
  readonly #server: PostgresServer;
  readonly #database: string;
  readonly #healthy = new Set<CoordinatorProcess>();
  /** Harmed at the moment: whoever harms starts it again. */
  readonly #harmed = new Set<CoordinatorProcess>();
  /** Ends that nobody caused, as of a leader that learns of another. */
  restarts = 0;
  #over = false;
  #looking: Promise<void>[] = [];

  private constructor(options: {
    server: PostgresServer;
    database: string;
    replicas: readonly CoordinatorProcess[];
    balancer: TcpProxy;
  }) {
    this.#server = options.server;
    this.#database = options.database;
    this.replicas = options.replicas;
    this.balancer = options.balancer;
  }

  /** `envOf` gives each replica more of an environment, by its place. */
  static async start(
    folder: string,
    server: PostgresServer,
    count: number,
    envOf: (place: number) => Readonly<Record<string, string>> = () => ({}),
  ): Promise<ReplicaSet> {
    const database = await server.database();
    const replicas = await Promise.all(
      Array.from({ length: count }, () => CoordinatorProcess.at('--postgres', server.url(database))),
    );
    let target = (): number | undefined => undefined;
    const balancer = await TcpProxy.open(() => target());
    const set = new ReplicaSet({ server, database, replicas, balancer });
    target = () => set.#target();
    for (const [place, replica] of replicas.entries()) {
      replica.dataDir = join(folder, `replica-${place}`);
      replica.env = envOf(place);
    }
    const [first, ...others] = replicas;
    await first!.serving();
    const key = join(first!.dataDir, KEY);
    await until('the signing key', 10_000, () => existsSync(key));
    for (const replica of others) {
      mkdirSync(replica.dataDir);
      copyFileSync(key, join(replica.dataDir, KEY));
      replica.start();
    }
    set.#looking = replicas.flatMap((replica) => [set.#look(replica), set.#supervise(replica)]);
    await until('a replica that answers', 30_000, () => set.#target() !== undefined);
    return set;
  }

  get port(): number {
    return this.balancer.port;
  }

  get url(): string {
    return `grpc://127.0.0.1:${this.port}`;
  }

  #target(): number | undefined {
    const healthy = this.replicas.filter((replica) => this.#healthy.has(replica));
    return healthy[this.balancer.taken % Math.max(1, healthy.length)]?.port;
  }

  /** As a load balancer does: who does not answer gets no connections, and those it has are reset. */
  async #look(replica: CoordinatorProcess): Promise<void> {
    while (!this.#over) {
      const isHealthy = await answers(replica.httpPort);
      if (isHealthy) this.#healthy.add(replica);
      else if (this.#healthy.delete(replica)) this.balancer.reset();
      await pause(LOOK_MS);
    }
  }

  async #supervise(replica: CoordinatorProcess): Promise<void> {
    while (!this.#over) {
      if (!replica.runs && !this.#harmed.has(replica)) {
        this.restarts += 1;
        replica.start();
      }
      await pause(SUPERVISE_MS);
    }
  }

  /** The epoch of the lease, and the replica that holds it. */
  async leader(): Promise<{ epoch: number; replica: CoordinatorProcess | undefined }> {
    const [row] = await this.#server.query(this.#database, 'SELECT epoch, holder FROM leases');
    const pid = Number(/process (\d+)/.exec(String(row?.['holder']))?.[1]);
    return { epoch: Number(row?.['epoch']), replica: this.replicas.find((replica) => replica.pid === pid) };
  }

  /** Harms a replica without the supervisor in between. */
  async harming<T>(replica: CoordinatorProcess, work: () => Promise<T>): Promise<T> {
    this.#harmed.add(replica);
    try {
      return await work();
    } finally {
      this.#harmed.delete(replica);
    }
  }

  /** Milliseconds until a leader of a higher epoch answers through the balancer's address. */
  async failover(epoch: number, withinMs: number): Promise<number> {
    const beganMs = performance.now();
    const hasLeader = async (): Promise<boolean> => {
      const now = await this.leader();
      return now.epoch > epoch && now.replica !== undefined && (await answers(now.replica.httpPort));
    };
    await until(`a leader after epoch ${epoch}`, withinMs, hasLeader, () =>
      this.replicas.map((replica) => replica.output().slice(-500)).join('\n'),
    );
    return performance.now() - beganMs;
  }

  /** Ends all; gives their exit codes. One that is told to end in order has begun to serve or to wait by then. */
  async end(signal: NodeJS.Signals): Promise<(number | null)[]> {
    const haveBegun = (): boolean => this.replicas.every((replica) => replica.runs && replica.output() !== '');
    if (signal === 'SIGTERM') await until('all replicas to have begun', 30_000, haveBegun);
    this.#over = true;
    for (const replica of this.replicas) replica.signal('SIGCONT');
    const codes = await Promise.all(this.replicas.map((replica) => replica.end(signal)));
    await Promise.all(this.#looking);
    await this.balancer.close();
    return codes;
  }

  get database(): string {
    return this.#database;
  }
}

async function answers(httpPort: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${httpPort}/healthz`, { signal: AbortSignal.timeout(HEALTH_MS) });
    return response.ok;
  } catch {
    return false;
  }
}
