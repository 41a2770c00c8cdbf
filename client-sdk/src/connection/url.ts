export type LinkKind = 'grpc' | 'nats';

/** Where a coordinator answers, and how. */
export interface CoordinatorUrl {
  kind: LinkKind;
  host: string;
  port: number;
}

const PORTS: Record<LinkKind, number> = { grpc: 7070, nats: 4222 };
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[?::1\]?)$/;

/** The parts of `grpc://HOST:PORT` or `nats://HOST:PORT`. */
export function parseUrl(url: string): CoordinatorUrl {
  const match = /^([a-z]+):\/\/(\[[^\]]+\]|[^:/?#@]+)(?::(\d{1,5}))?\/?$/.exec(url);
  const [, kind, host, port] = match ?? [];
  if ((kind !== 'grpc' && kind !== 'nats') || host === undefined || Number(port ?? 0) > 65535) {
    throw new TypeError(
      `'${url}' is not a coordinator's address; write grpc://127.0.0.1:PORT or nats://127.0.0.1:PORT`,
    );
  }
  return { kind, host, port: port === undefined ? PORTS[kind] : Number(port) };
}

/** The parts of a URL on this machine. Others are refused: nothing on the wire is encrypted or authenticated yet. */
export function requireLoopback(url: string): CoordinatorUrl {
  const parsed = parseUrl(url);
  if (!LOOPBACK.test(parsed.host)) {
    throw new TypeError(
      `'${url}' is not on this machine; identity and TLS come in a later version, until then use 127.0.0.1 or localhost`,
    );
  }
  return parsed;
}
