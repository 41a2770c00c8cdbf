import { connectOn, type Client, type ConnectOptions } from './client.ts';
import { nodePlatform } from './platform/node.ts';

/** Live models of the coordinator at `grpc://127.0.0.1:PORT`, `nats://127.0.0.1:PORT` or `http://127.0.0.1:PORT`. */
export const connect = (url: string, options: ConnectOptions = {}): Promise<Client> =>
  connectOn(nodePlatform, url, options);
