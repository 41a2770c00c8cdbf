import { ConfigError } from '@commonweight/core';

const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]', '::1'];

/** The parts of `host:port`. Throws ConfigError where it is none, or not on this machine. */
export function loopback(address: string, flag: string): { host: string; port: number } {
  const at = address.lastIndexOf(':');
  const [host, port] = [address.slice(0, at), Number(address.slice(at + 1))];
  if (at < 1 || !Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new ConfigError(`${flag} ${address} is not host:port, such as 127.0.0.1:8443`, flag);
  }
  if (!LOOPBACK.includes(host)) {
    throw new ConfigError(
      `${flag} ${address} is not on this machine: until identities and TLS come, only 127.0.0.1 is served`,
      flag,
    );
  }
  return { host: host === 'localhost' ? '127.0.0.1' : host.replace(/^\[|\]$/g, ''), port };
}
