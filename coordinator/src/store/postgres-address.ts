import { ConfigError } from '@commonweight/core';

/** Where a database is and who asks. */
export interface PostgresAddress {
  host: string;
  port: number;
  database: string;
  user: string;
  password: string | undefined;
  /** The address without the password, for messages. */
  name: string;
}

const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]'];

/** `postgres://[user[:password]@]127.0.0.1[:port]/database`. Throws ConfigError, which never has the password in it. */
export function parsePostgresUrl(text: string, env: NodeJS.ProcessEnv = process.env): PostgresAddress {
  const wrong = (what: string): ConfigError => new ConfigError(`--postgres ${what}`, '--postgres');
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const database = decodeURIComponent(url?.pathname.slice(1) ?? '');
  if (url === undefined || !['postgres:', 'postgresql:'].includes(url.protocol) || database === '') {
    throw wrong('is not an address such as postgres://127.0.0.1:5432/commonweight');
  }
  // The driver would take another host from them.
  if (url.search !== '' || url.hash !== '') throw wrong('may have no ? or # in it');
  if (!LOOPBACK.includes(url.hostname)) {
    throw wrong(`names ${url.hostname}, which is not this machine: until TLS comes, only 127.0.0.1 is used`);
  }
  const user = decodeURIComponent(url.username) || env['PGUSER'] || env['USER'] || 'postgres';
  const port = Number(url.port || 5432);
  const host = url.hostname === 'localhost' ? '127.0.0.1' : url.hostname.replace(/^\[|\]$/g, '');
  return {
    host,
    port,
    database,
    user,
    password: decodeURIComponent(url.password) || env['PGPASSWORD'],
    name: `postgres://${url.hostname}:${port}/${database}`,
  };
}
