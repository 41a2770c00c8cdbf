import { connect, createServer, type Server, type Socket } from 'node:net';
import { seeded, type RandomStream } from '@commonweight/core';

/** What a link does to the bytes that pass. What is left out does no harm. */
export interface Weather {
  /** Each way. */
  latencyMs?: number;
  /** On top of the latency, uniform from 0; the order of the bytes stays. */
  jitterMs?: number;
  /** Each way of each connection. */
  bytesPerSecond?: number;
  /** Bytes go on in pieces of 1 to this many. */
  pieceBytesMax?: number;
  /** Chance that a piece resets its connection instead of passing. */
  resets?: number;
  /** Chance that one bit of a piece is flipped. */
  damage?: number;
  /** Bytes of one connection and way that may be under way; more are not read, so that the sender feels it. */
  underWayBytesMax?: number;
}

export type Way = 'up' | 'down';

export interface TcpProxyOptions {
  seed?: number;
  weather?: Weather;
  /** A free one by default. */
  port?: number;
}

const UNDER_WAY_BYTES_MAX = 256 * 1024;
const PIECE_BYTES_MAX = 64 * 1024;

/**
 * A link that fails on command, between loopback ports: late, slow, in pieces, damaged, reset, frozen, or open with nothing
 * coming through. The same seed draws the same weather; which bytes come at once, the machine decides.
 */
export class TcpProxy {
  weather: Weather;
  /** Ways on which bytes are taken and thrown away while the connection stays open. */
  readonly swallowed = new Set<Way>();
  /** New connections are reset. */
  refuses = false;
  /** Bytes that came through. */
  readonly passed = { up: 0, down: 0 };
  /** Connections taken since the start. */
  taken = 0;
  /** Connections that were reset because nobody was to have them. */
  refused = 0;
  resets = 0;
  readonly #server: Server;
  readonly #target: () => number | undefined;
  readonly #random: RandomStream;
  readonly #connections = new Set<Connection>();
  #thawed: Promise<void> = Promise.resolve();
  #thaw = (): void => {};

  private constructor(server: Server, target: () => number | undefined, { seed = 1, weather = {} }: TcpProxyOptions) {
    this.#server = server;
    this.#target = target;
    this.#random = seeded(seed);
    this.weather = weather;
    server.on('connection', (socket) => this.#take(socket));
  }

  /** Listens on the loopback interface. The target is a port, or says for each connection which; undefined resets it. */
  static async open(target: number | (() => number | undefined), options: TcpProxyOptions = {}): Promise<TcpProxy> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    const targetOf = typeof target === 'number' ? () => target : target;
    const proxy = new TcpProxy(server, targetOf, options);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(options.port ?? 0, '127.0.0.1', resolve);
    });
    return proxy;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy is closed');
    return address.port;
  }

  get #underWayBytesMax(): number {
    return this.weather.underWayBytesMax ?? UNDER_WAY_BYTES_MAX;
  }

  get open(): number {
    return this.#connections.size;
  }

  /** Nothing is read on either side and nothing is lost, until `thaw`. */
  freeze(): void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#thaw();
    this.#thawed = promise;
    this.#thaw = resolve;
  }

  thaw(): void {
    this.#thaw();
  }

  /** Resets all connections; gives how many. */
  reset(): number {
    const count = this.#connections.size;
    for (const connection of [...this.#connections]) connection.reset();
    this.resets += count;
    return count;
  }

  async close(): Promise<void> {
    this.thaw();
    this.reset();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #take(client: Socket): void {
    const port = this.refuses ? undefined : this.#target();
    if (port === undefined) {
      this.refused += 1;
      return void client.resetAndDestroy();
    }
    this.taken += 1;
    const server = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    const connection = new Connection(client, server, () => this.#connections.delete(connection));
    this.#connections.add(connection);
    for (const way of ['up', 'down'] as const) {
      const random = this.#random.fork(`${this.taken} ${way}`);
      this.#carry(connection, way, random).catch(() => connection.reset());
    }
  }

  /** Brings the bytes of one way to the other side, in their order, each when it is due. */
  async #carry(connection: Connection, way: Way, random: RandomStream): Promise<void> {
    const [from, to] = way === 'up' ? [connection.client, connection.server] : [connection.server, connection.client];
    const underWay: { piece: Buffer | undefined; dueMs: number }[] = [];
    let bytes = 0;
    let dueMs = 0;
    let wake = (): void => {};
    from.on('data', (data: Buffer) => {
      for (let at = 0; at < data.length;) {
        const max = Math.min(this.weather.pieceBytesMax ?? PIECE_BYTES_MAX, PIECE_BYTES_MAX);
        const piece = data.subarray(
          at,
          at + 1 + (this.weather.pieceBytesMax === undefined ? max : random.integer(max)),
        );
        at += piece.length;
        const { latencyMs = 0, jitterMs = 0, bytesPerSecond = Infinity } = this.weather;
        const arrivesMs = performance.now() + latencyMs + jitterMs * random.uniform();
        dueMs = Math.max(dueMs, arrivesMs) + (1000 * piece.length) / bytesPerSecond;
        underWay.push({ piece, dueMs });
      }
      bytes += data.length;
      if (bytes >= this.#underWayBytesMax) from.pause();
      wake();
    });
    from.on('end', () => {
      underWay.push({ piece: undefined, dueMs });
      wake();
    });
    while (!connection.over) {
      const next = underWay.shift();
      if (next === undefined) {
        await Promise.race([new Promise<void>((resolve) => (wake = resolve)), connection.closed]);
        continue;
      }
      await waitUntil(next.dueMs);
      await Promise.race([this.#thawed, connection.closed]);
      if (connection.over) return;
      if (next.piece === undefined) return void to.end();
      bytes -= next.piece.length;
      if (bytes < this.#underWayBytesMax && from.isPaused()) from.resume();
      if (this.swallowed.has(way)) continue;
      const { resets = 0, damage = 0 } = this.weather;
      if (resets > 0 && random.uniform() < resets) {
        this.resets += 1;
        return connection.reset();
      }
      if (damage > 0 && random.uniform() < damage) {
        next.piece = Buffer.from(next.piece);
        next.piece[random.integer(next.piece.length)]! ^= 1 << random.integer(8);
      }
      this.passed[way] += next.piece.length;
      if (!to.write(next.piece)) {
        await Promise.race([new Promise((resolve) => to.once('drain', resolve)), connection.closed]);
      }
    }
  }
}

/** The two sockets of one connection. */
class Connection {
  readonly client: Socket;
  readonly server: Socket;
  readonly closed: Promise<void>;
  over = false;
  readonly #end: () => void;
  readonly #onOver: () => void;

  constructor(client: Socket, server: Socket, onOver: () => void) {
    this.client = client;
    this.server = server;
    this.#onOver = onOver;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    this.#end = resolve;
    for (const socket of [client, server]) {
      socket.on('error', () => this.reset());
      socket.on('close', () => {
        if (client.destroyed && server.destroyed) this.#finish();
        // Both ends in order: what is under way still goes to the other side.
        else if (socket.errored !== null) this.reset();
      });
    }
  }

  reset(): void {
    if (this.over) return;
    for (const socket of [this.client, this.server]) {
      if (socket.connecting) socket.destroy();
      else socket.resetAndDestroy();
    }
    this.#finish();
  }

  #finish(): void {
    if (this.over) return;
    this.over = true;
    this.#end();
    this.#onOver();
  }
}

async function waitUntil(dueMs: number): Promise<void> {
  const leftMs = dueMs - performance.now();
  if (leftMs > 0.5) await new Promise((resolve) => setTimeout(resolve, leftMs));
}
