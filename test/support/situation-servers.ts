import { freePort } from './free-port.ts';
import { listening, natsServerWithWebSocket, type Program } from './processes.ts';
import { Publisher, type Ports } from './publisher.ts';
import type { Servers } from './situations.ts';

/** A publisher that is opened for each test, and a NATS server that browsers can reach as well. */
export interface OpenServers extends Servers {
  readonly webSocketPort: number;
  open(): Promise<void>;
}

/** Takes the ports; nothing listens yet. */
export async function openServers(): Promise<OpenServers> {
  const ports: Ports = { grpc: await freePort(), http: await freePort(), nats: await freePort() };
  const webSocketPort = await freePort();
  let nats: Program | undefined;
  let publisher: Publisher | undefined;
  return {
    ports,
    webSocketPort,
    get publisher() {
      if (publisher === undefined) throw new Error('the publisher is opened before each test');
      return publisher;
    },
    set publisher(opened) {
      publisher = opened;
    },
    async open() {
      publisher = await Publisher.open(ports);
    },
    async startNats() {
      nats = natsServerWithWebSocket(ports.nats, webSocketPort);
      await listening(ports.nats, nats);
      await listening(webSocketPort, nats);
    },
    async endNats() {
      await nats?.end('SIGKILL');
    },
  };
}
