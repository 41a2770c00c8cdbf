import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { portError, type Listening } from '../grpc/server.ts';
import { answer } from './answer.ts';

/** How often connections are looked at. */
const LOOK_MS = 1_000;

export interface HttpLimits {
  host: string;
  port: number;
  /** How long a request may take to come. */
  patienceMs: number;
  connectionsMax: number;
}

/** Listens for HTTP within limits; what goes wrong with a request is told to who made it, and ends nothing else. */
export async function listenHttp(
  handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>,
  { host, port, patienceMs, connectionsMax }: HttpLimits,
  headers: Readonly<Record<string, string>> = {},
): Promise<Listening> {
  const limits = { headersTimeout: patienceMs, requestTimeout: patienceMs, keepAliveTimeout: patienceMs };
  const looking = { connectionsCheckingInterval: Math.min(LOOK_MS, patienceMs) };
  const server = createServer({ ...limits, ...looking }, (request, response) => {
    handle(request, response).catch((error: unknown) => {
      // A body that has begun must not look whole.
      if (response.headersSent) response.destroy(error as Error);
      else answer(response, 500, { ...headers, 'Content-Type': 'text/plain' }, `${(error as Error).message}\n`);
    });
  });
  server.maxConnections = connectionsMax;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(portError('HTTP', host, port, error)));
    server.listen(port, host, resolve);
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
