import type { Socket } from 'node:net';
import type { Server } from '@grpc/grpc-js';

/** The private part of grpc-js's server that is given each HTTP/2 server (1.14.7). */
interface ServerInside {
  _sessionHandler?: (http2Server: { on(event: 'connection', listener: (socket: Socket) => void): void }) => unknown;
}

/**
 * Gives what cuts all connections of a server. Its own `forceShutdown` leaves the socket of whoever does not close it open, and
 * an open socket keeps the process.
 */
export function connectionsOf(server: Server): { cut(): void } {
  const inside = server as unknown as ServerInside;
  if (inside._sessionHandler === undefined) {
    throw new Error('grpc-js has changed inside: connectionsOf must be looked at again');
  }
  const sockets = new Set<Socket>();
  const handlerOf = inside._sessionHandler.bind(server);
  inside._sessionHandler = (http2Server) => {
    http2Server.on('connection', (socket) => {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
    });
    return handlerOf(http2Server);
  };
  return { cut: () => sockets.forEach((socket) => socket.destroy()) };
}
