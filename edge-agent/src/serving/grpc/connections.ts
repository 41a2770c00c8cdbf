import type { Socket } from 'node:net';
import type { Http2Session } from 'node:http2';
import type { Server } from '@grpc/grpc-js';

/** Connections beyond the limit that are kept until they have heard why they are refused; further ones are cut at once. */
const REFUSED_MAX = 16;
/** How long one of them may take to ask. */
const REFUSED_MS = 5_000;

/** The part of an HTTP/2 server that counts. */
interface Http2Server {
  maxConnections: number;
  prependListener(event: 'connection', listener: (socket: Socket) => void): void;
}

/** The private part of grpc-js's server that is given each HTTP/2 server (1.14.7). */
interface ServerInside {
  _sessionHandler?: (http2Server: Http2Server) => (session: Http2Session) => void;
}

/** The connections of a gRPC server, which itself takes as many as come. */
export interface Connections {
  readonly count: number;
  /** Whether the connection is one too many: its calls are to be refused, and it ends after the first. */
  isBeyond(session: Http2Session | undefined): boolean;
  /** Cuts all. Its own `forceShutdown` leaves the socket of whoever does not close it open, and an open socket keeps the process. */
  cut(): void;
}

/** Bounds the connections of a server, before it is bound. */
export function boundConnections(server: Server, max: number): Connections {
  const inside = server as unknown as ServerInside;
  if (inside._sessionHandler === undefined) {
    throw new Error('grpc-js has changed inside: boundConnections must be looked at again');
  }
  const sockets = new Set<Socket>();
  const beyond = new WeakSet<Http2Session>();
  const handlerOf = inside._sessionHandler.bind(server);
  inside._sessionHandler = (http2Server) => {
    http2Server.maxConnections = max + REFUSED_MAX;
    // Before the server makes a session of it.
    http2Server.prependListener('connection', (socket) => {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
    });
    const handle = handlerOf(http2Server);
    return (session) => {
      if (sockets.size > max) refuse(session);
      handle(session);
    };
  };
  const refuse = (session: Http2Session): void => {
    beyond.add(session);
    const silent = setTimeout(() => session.destroy(), REFUSED_MS);
    silent.unref();
    session.once('stream', () => session.close()).once('close', () => clearTimeout(silent));
  };
  return {
    get count() {
      return sockets.size;
    },
    isBeyond: (session) => session !== undefined && beyond.has(session),
    cut: () => sockets.forEach((socket) => socket.destroy()),
  };
}
