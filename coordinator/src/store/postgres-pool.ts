import { setTimeout as sleep } from 'node:timers/promises';
import { Pool, type PoolClient } from 'pg';
import type { PostgresAddress } from './postgres-address.ts';
import { StoreError } from './store.ts';

export type Value = string | number | Uint8Array;

const CONNECT_MS = 2_000;
/** The most that one statement may take on the server; the client gives up a little later. */
const STATEMENT_MS = 10_000;
/** A leader that stops in the middle of a transaction gives up its locks after this. */
const IDLE_IN_TRANSACTION_MS = 1_500;
const CONNECTIONS_MAX = 8;
/** How long a server that is away is waited for. */
const AWAY_MS = 30_000;
const AGAIN_MS = 100;

/** Connections whose commits are flushed to the disk before they are answered. */
export function openPool({ host, port, database, user, password }: PostgresAddress): Pool {
  const settings = {
    synchronous_commit: 'on',
    statement_timeout: STATEMENT_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    client_min_messages: 'warning',
  };
  const pool = new Pool({
    host,
    port,
    database,
    user,
    // A function, so that a missing password is an error of ours and not looked for in the home folder.
    password: () => password ?? '',
    ssl: false,
    max: CONNECTIONS_MAX,
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: STATEMENT_MS + 1_000,
    application_name: 'commonweight',
    options: Object.entries(settings)
      .map(([name, value]) => `-c ${name}=${value}`)
      .join(' '),
  });
  // An idle connection that breaks is replaced at the next use, which tells what is wrong if it still is.
  pool.on('error', () => {});
  return pool;
}

/** Works on one connection, which is not used again where the work failed. */
export async function withClient<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let failure: Error | undefined;
  // Without a listener a connection that breaks between two statements would end the process.
  const onError = (error: Error): void => void (failure ??= error);
  client.on('error', onError);
  try {
    return await work(client);
  } catch (error) {
    failure ??= error as Error;
    throw error;
  } finally {
    client.off('error', onError);
    client.release(failure);
  }
}

/** Does again what has no effect of its own, until the server is back or has been away for too long. */
export async function retrying<T>(work: () => Promise<T>): Promise<T> {
  for (const endMs = performance.now() + AWAY_MS; ;) {
    try {
      return await work();
    } catch (error) {
      if (!isAway(error) || performance.now() > endMs) throw error;
    }
    await sleep(AGAIN_MS);
  }
}

const codeOf = (error: unknown): string => (error as { code?: string }).code ?? '';

/**
 * Whether the connection and not the statement failed. Class 08 and 57P0x are the server's own words for it, 25P03 and 40001
 * what became of a transaction that stood still: https://www.postgresql.org/docs/current/errcodes-appendix.html.
 */
export function isAway(error: unknown): boolean {
  const { message } = error as Error;
  if (/^(08...|57P0.|25P03|ECONN\w+|EPIPE|ETIMEDOUT)$/.test(codeOf(error))) return true;
  return /^Connection terminated|^Query read timeout|^timeout exce|not queryable|^Client has encountered/.test(message);
}

export function storeError(deed: string, error: unknown, { name }: PostgresAddress): StoreError {
  if (error instanceof StoreError) return error;
  const options = { cause: error };
  const code = codeOf(error);
  const { message } = error as Error;
  if (code === '53100') {
    const full = `cannot ${deed}: the disk of ${name} is full: make room, and it goes on by itself`;
    return new StoreError(full, { ...options, kind: 'full' });
  }
  if (code === '23505') return new StoreError(`cannot ${deed}: ${message}`, { ...options, kind: 'refused' });
  if (code === '28P01' || code === '28000') {
    return new StoreError(`${name} refuses the user: give user and password in the address or PGPASSWORD`, options);
  }
  if (code === '3D000') return new StoreError(`there is no database ${name}: make it with createdb`, options);
  if (isAway(error)) {
    return new StoreError(`cannot ${deed}: no PostgreSQL answers at ${name} (${message}): start it again`, options);
  }
  return new StoreError(`cannot ${deed}: ${message} (${name})`, options);
}
