import { freePort } from './free-port.ts';
import { listening, program, until, type Program } from './processes.ts';
import { TcpProxy } from './tcp-proxy.ts';

const SERVERS = 3;

/**
 * Three NATS servers on loopback ports that know each other by routes alone. Each route leads through a proxy of its own, so
 * that any server can be cut off from the others while its clients stay.
 */
export class NatsCluster {
  readonly ports: readonly number[];
  readonly #routePorts: readonly number[];
  readonly #monitorPorts: readonly number[];
  /** By the numbers of the two servers, the one that dials first. */
  readonly #routes = new Map<string, TcpProxy>();
  /** Servers tell each other where to dial them beside the routes that they were given. Nobody is there. */
  readonly #nowhere: number;
  readonly #servers: (Program | undefined)[] = [];

  private constructor(ports: readonly number[]) {
    this.ports = ports.slice(0, SERVERS);
    this.#routePorts = ports.slice(SERVERS, 2 * SERVERS);
    this.#monitorPorts = ports.slice(2 * SERVERS, 3 * SERVERS);
    this.#nowhere = ports[3 * SERVERS]!;
  }

  static async start(): Promise<NatsCluster> {
    const ports: number[] = [];
    while (ports.length < 3 * SERVERS + 1) {
      const port = await freePort();
      if (!ports.includes(port)) ports.push(port);
    }
    const cluster = new NatsCluster(ports);
    for (let from = 0; from < SERVERS; from++) {
      for (let to = from + 1; to < SERVERS; to++) {
        cluster.#routes.set(`${from} ${to}`, await TcpProxy.open(cluster.#routePorts[to]!));
      }
    }
    await Promise.all(cluster.ports.map((_, server) => cluster.resume(server)));
    await cluster.whole();
    return cluster;
  }

  url(server: number): string {
    return `nats://127.0.0.1:${this.ports[server]!}`;
  }

  pid(server: number): number | undefined {
    return this.#servers[server]?.child.pid;
  }

  /** Starts a server, again after a kill, and waits until clients can connect. */
  async resume(server: number): Promise<void> {
    const dials = [...this.#routes].filter(([pair]) => pair.startsWith(`${server} `));
    const at = (port: number): string => `127.0.0.1:${port}`;
    const started = program('nats-server', [
      ...['--addr', '127.0.0.1', '--port', String(this.ports[server]!), '--server_name', `server-${server}`],
      ...['--http_port', String(this.#monitorPorts[server]!)],
      ...['--cluster_name', 'test', '--cluster', `nats://${at(this.#routePorts[server]!)}`],
      ...['--cluster_advertise', at(this.#nowhere), '--no_advertise'],
      ...(dials.length === 0 ? [] : ['--routes', dials.map(([, { port }]) => `nats://${at(port)}`).join(',')]),
    ]);
    this.#servers[server] = started;
    await listening(this.ports[server]!, started);
  }

  async kill(server: number, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.#servers[server]?.end(signal);
    this.#servers[server] = undefined;
  }

  /** Its sockets stay open and nothing comes of it, until `thaw`. */
  freeze(server: number): void {
    this.#servers[server]?.child.kill('SIGSTOP');
  }

  thaw(server: number): void {
    this.#servers[server]?.child.kill('SIGCONT');
  }

  /** Cuts a server's routes to the others. Its clients stay. */
  cutOff(server: number): void {
    for (const route of this.#routesOf(server)) {
      route.refuses = true;
      route.reset();
    }
  }

  heal(server: number): void {
    for (const route of this.#routesOf(server)) route.refuses = false;
  }

  /** Waits until all servers that run know each other. */
  async whole(): Promise<void> {
    const running = this.#servers.flatMap((server, at) => (server === undefined ? [] : [at]));
    const isWhole = async (): Promise<boolean> => {
      const counts = await Promise.all(running.map((server) => this.#peers(server)));
      return counts.every((count) => count === running.length - 1);
    };
    await until('the servers to know each other', 30_000, isWhole, () => this.output());
  }

  output(): string {
    return this.#servers.map((server) => server?.output().slice(-2000) ?? '').join('\n');
  }

  async close(): Promise<void> {
    // What is stopped does not end by itself.
    await Promise.all(this.ports.map((_, server) => this.kill(server)));
    await Promise.all([...this.#routes.values()].map((route) => route.close()));
  }

  #routesOf(server: number): TcpProxy[] {
    return [...this.#routes].filter(([pair]) => pair.split(' ').includes(String(server))).map(([, route]) => route);
  }

  /** Other servers that one has a route to. */
  async #peers(server: number): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${this.#monitorPorts[server]!}/routez`);
    const { routes } = (await response.json()) as { routes?: { remote_id: string }[] };
    return new Set(routes?.map(({ remote_id }) => remote_id)).size;
  }
}
