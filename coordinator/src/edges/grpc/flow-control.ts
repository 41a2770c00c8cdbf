import type { Http2Session, ServerHttp2Session } from 'node:http2';
import { ServerInterceptingCall, type Server, type ServerInterceptor } from '@grpc/grpc-js';
import { Turns } from './turns.ts';

/** The private parts of grpc-js's server that carry its HTTP/2 settings (1.14.7). */
interface ServerInside {
  _sessionHandler?: (
    http2Server: unknown,
  ) => (session: Pick<ServerHttp2Session, 'setLocalWindowSize' | 'settings'>) => void;
}

/** The private part of a call that is its stream (grpc-js 1.14.7). */
interface CallInside {
  stream?: { session?: Http2Session | undefined };
}

/** What a stream may send before it is read: less than HTTP/2 has by itself, so that thousands who wait cost little. */
const NARROW_BYTES = 16_384;
/** The same for one that is read alone: 64 KiB a round trip would be 1 MB/s over 40 ms. Half of it is given back at a time, so that a round trip brings less. */
const WIDE_BYTES = 8 * 1024 * 1024;
/**
 * Calls that send much and are read at once; the others wait, and nothing of them is here but what is narrow. The n-th has an n-th of the window, 27 MiB
 * together: where many send, the links are not what they wait for.
 */
const AT_ONCE = 16;
/** Whoever lets the server wait for longer makes way for the next, sends on through a narrow window, and has a turn again later: a thousand agents on slow links all send. */
const WAIT_MS = 1_000;

/**
 * Widens the receive window of a server's connections, and narrows that of their streams until `inTurn` widens it. grpc-js ignores
 * `grpc-node.flow_control_window` on servers; to be dropped when grpc-node's pull request 3058 is released.
 */
export function widenConnections(server: Server): void {
  const inside = server as unknown as ServerInside;
  if (inside._sessionHandler === undefined) {
    throw new Error('grpc-js has changed inside: widenConnections must be looked at again');
  }
  const handlerOf = inside._sessionHandler.bind(server);
  inside._sessionHandler = (http2Server) => {
    const handle = handlerOf(http2Server);
    return (session) => {
      session.setLocalWindowSize(WIDE_BYTES);
      session.settings({ initialWindowSize: NARROW_BYTES });
      handle(session);
    };
  };
}

/**
 * Reads calls of `inTurns` a few at a time, and widens the window of a connection while one of `inTurns` or `atOnce` is read on it:
 * whatever is sent into a window is kept here, so that a thousand uploads at once would take a thousand times their size. What `inner` does
 * begins with the turn.
 */
export function inTurn(
  paths: { inTurns: readonly string[]; atOnce: readonly string[] },
  inner: ServerInterceptor,
): ServerInterceptor {
  const turns = new Turns(AT_ONCE);
  const wide = new WeakMap<Http2Session, number>();
  const resize = (session: Http2Session | undefined, by: 1 | -1, wideBytes = WIDE_BYTES): void => {
    if (session === undefined || session.destroyed) return;
    const [before, after] = [wide.get(session) ?? 0, (wide.get(session) ?? 0) + by];
    wide.set(session, after);
    if ((before === 0) === (after === 0)) return;
    session.settings({ initialWindowSize: after === 0 ? NARROW_BYTES : wideBytes });
  };
  return (method, call) => {
    const isInTurns = paths.inTurns.includes(method.path);
    if (!isInTurns && !paths.atOnce.includes(method.path)) return inner(method, call);
    const { stream } = call as unknown as CallInside;
    if (stream === undefined) throw new Error('grpc-js has changed inside: inTurn must be looked at again');
    const { session } = stream;
    let end: (() => void) | undefined;
    let isWide = false;
    let isReading = false;
    let leftMs = 0;
    let waitsSinceMs = 0;
    let timer: NodeJS.Timeout | undefined;
    const over = (): void => {
      clearTimeout(timer);
      if (isWide) resize(session, -1);
      isWide = false;
      end?.();
    };
    const wait = (): void => {
      if (!isWide || !isInTurns) return;
      waitsSinceMs = performance.now();
      timer = setTimeout(makeWay, Math.max(0, leftMs)).unref();
    };
    const hears = (): void => {
      isReading = false;
      clearTimeout(timer);
      if (isWide) leftMs -= performance.now() - waitsSinceMs;
    };
    const intercepted = new ServerInterceptingCall(inner(method, call), {
      start: (next) =>
        next({
          onReceiveMessage: (message, nextMessage) => {
            hears();
            nextMessage(message);
          },
          onCancel: over,
        }),
      sendStatus: (sent, next) => {
        over();
        next(sent);
      },
    });
    const read = intercepted.startRead.bind(intercepted);
    const startRead = (): void => {
      isReading = true;
      wait();
      read();
    };
    const begin = (): void => {
      isWide = true;
      leftMs = WAIT_MS;
      resize(session, 1, isInTurns ? Math.floor(WIDE_BYTES / turns.taken) : WIDE_BYTES);
      if (isReading) wait();
    };
    const makeWay = (): void => {
      // Nobody is held up: each change of the window would be one more that a silent peer has not answered.
      if (!turns.areAwaited) {
        leftMs = WAIT_MS;
        return wait();
      }
      over();
      end = turns.ask(begin);
    };
    intercepted.startRead = () => {
      if (end !== undefined) return startRead();
      // What the turn calls at once must find that it was asked for.
      end = () => {};
      const first = (): void => {
        begin();
        startRead();
      };
      if (isInTurns) end = turns.ask(first);
      else first();
    };
    return intercepted;
  };
}
