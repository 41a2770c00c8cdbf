import { ConfigError } from '@commonweight/core';

export interface Address {
  host: string;
  port: number;
}

/** A server that listens. */
export interface Listening {
  port: number;
  close(): Promise<void>;
}

const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]', '::1'];

/** `HOST:PORT` on this machine; port 0 takes a free one. Throws ConfigError, with the flag in it. */
export function loopbackAddress(address: string, flag: string): Address {
  const at = address.lastIndexOf(':');
  const [host, port] = [address.slice(0, at), Number(address.slice(at + 1))];
  if (at < 1 || !/^\d+$/.test(address.slice(at + 1)) || port > 65_535) {
    throw new ConfigError(`${flag} ${address} is not host:port, such as 127.0.0.1:8000`, flag);
  }
  if (!LOOPBACK.includes(host)) {
    throw new ConfigError(
      `${flag} ${address} is not on this machine: until identities and TLS come, only 127.0.0.1 is served`,
      flag,
    );
  }
  return { host: host === 'localhost' ? '127.0.0.1' : host.replace(/^\[|\]$/g, ''), port };
}

/** A port that cannot be had, in words. */
export const portError = (what: string, { host, port }: Address, cause: Error): Error =>
  new Error(
    `cannot listen for ${what} on ${host}:${port}${/EADDRINUSE/.test(cause.message) ? ', which is in use' : ` (${cause.message})`}: end the program that uses the port, or choose another`,
    { cause },
  );
