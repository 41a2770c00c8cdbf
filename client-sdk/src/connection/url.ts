/** `ws` is NATS by WebSocket. */
export type LinkKind = 'grpc' | 'nats' | 'http' | 'ws';

/** Where coordinators of one task or servers of one cluster answer. */
export interface Address {
  host: string;
  port: number;
}

/** Where a coordinator answers, and how. */
export interface CoordinatorUrl {
  kind: LinkKind;
  /** One or several: whoever is there. */
  addresses: readonly Address[];
}

const PORTS: Record<LinkKind, number> = { grpc: 8443, nats: 4222, http: 80, ws: 80 };
const isKind = (kind: string | undefined): kind is LinkKind => kind !== undefined && Object.hasOwn(PORTS, kind);
/** Coordinators or servers that one URL may name. */
const ADDRESSES_MAX = 16;
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[?::1\]?)$/;

/**
 * The parts of `grpc://HOST:PORT` or `nats://HOST:PORT`, with `,HOST:PORT` for each further one, or of `http://HOST:PORT` or `ws://HOST:PORT`.
 */
export function parseUrl(url: string): CoordinatorUrl {
  const [, kind, list = ''] = /^([a-z]+):\/\/([^/?#@]+)\/?$/.exec(url) ?? [];
  const parts = list.split(',');
  const partsMax = kind === 'http' || kind === 'ws' ? 1 : ADDRESSES_MAX;
  if (!isKind(kind) || parts.length > partsMax) throw notAnAddress(url);
  const addresses = parts.map((part) => {
    const [, host, port] = /^(\[[^\]]+\]|[^:]+)(?::(\d{1,5}))?$/.exec(part) ?? [];
    if (host === undefined || Number(port ?? 0) > 65535) throw notAnAddress(url);
    return { host, port: port === undefined ? PORTS[kind] : Number(port) };
  });
  return { kind, addresses };
}

const notAnAddress = (url: string): TypeError =>
  new TypeError(
    `'${url}' is not a coordinator's address; write grpc://127.0.0.1:PORT or nats://127.0.0.1:PORT, and more after commas, or http://127.0.0.1:PORT`,
  );

/** The parts of a URL on this machine. Others are refused: nothing on the wire is encrypted or authenticated yet. */
export function requireLoopback(url: string): CoordinatorUrl {
  const parsed = parseUrl(url);
  for (const { host } of parsed.addresses) {
    if (LOOPBACK.test(host)) continue;
    throw new TypeError(
      `'${url}' is not on this machine; identity and TLS come in a later version, until then use 127.0.0.1 or localhost`,
    );
  }
  return parsed;
}
