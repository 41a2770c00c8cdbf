import type { Socket } from 'node:net';
import { credentials, type ChannelCredentials } from '@grpc/grpc-js';

interface SecureConnector {
  connect(socket: Socket): Promise<unknown>;
}

/** The private part of grpc-js's credentials that is given each new connection (1.14.7). */
interface CredentialsInside {
  _createSecureConnector?: (...args: unknown[]) => SecureConnector;
}

/**
 * Credentials of a plain connection that is closed where nothing comes from the other side in time. grpc-js itself waits
 * without end for a peer that takes the connection and says nothing, as a stopped process does, and so do all calls.
 */
export function plainWithin(timeoutMs: number): ChannelCredentials {
  const plain = credentials.createInsecure();
  const inside = plain as unknown as CredentialsInside;
  if (inside._createSecureConnector === undefined) {
    throw new Error('grpc-js has changed inside: plainWithin must be looked at again');
  }
  const connectorOf = inside._createSecureConnector.bind(plain);
  inside._createSecureConnector = (...args) => {
    const connector = connectorOf(...args);
    const connect = connector.connect.bind(connector);
    connector.connect = (socket) => {
      const timer = setTimeout(() => {
        // A server's settings are the first that comes.
        if (socket.bytesRead === 0) socket.destroy(new Error(`no answer within ${timeoutMs} ms`));
      }, timeoutMs);
      timer.unref();
      socket.once('close', () => clearTimeout(timer));
      return connect(socket);
    };
    return connector;
  };
  return plain;
}
