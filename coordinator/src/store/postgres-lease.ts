import { setTimeout as sleep } from 'node:timers/promises';
import type { Pool, PoolClient } from 'pg';
import { isAway, withClient } from './postgres-pool.ts';
import type { Row } from './rows.ts';
import { StoreError, type Lease } from './store.ts';

/** How long a leader that says nothing keeps its lease, by the database's clock. */
export const LEASE_MS = 3_500;
const RENEW_MS = 700;
const LOOK_MS = 250;
export const LEADER = 'leader';
/** The database's time: those of the coordinators do not matter. */
export const NOW_MS: string = '(extract(epoch from clock_timestamp()) * 1000)::bigint';

export interface Candidate {
  /** Who asks, for the words of the others. */
  holder: string;
  /** Its name among the replicas. */
  replica: string;
  /** Ends the waiting. */
  signal: AbortSignal;
}

/** The lease row: an epoch that rises with each leader, renewed while the leader lives. */
export class PostgresLease implements Lease {
  readonly epoch: number;
  readonly lost: Promise<StoreError>;
  readonly #pool: Pool;
  readonly #lose: (error: StoreError) => void;
  readonly #timer: NodeJS.Timeout;
  #renewing: Promise<void> | undefined;

  private constructor(pool: Pool, epoch: number) {
    const { promise, resolve } = Promise.withResolvers<StoreError>();
    this.#pool = pool;
    this.epoch = epoch;
    this.lost = promise;
    this.#lose = resolve;
    this.#timer = setInterval(() => (this.#renewing ??= this.#renew()), RENEW_MS);
  }

  /** Takes the lease, or gives who has it. */
  static async tryToTake(pool: Pool, holder: string, replica: string): Promise<PostgresLease | string> {
    const epoch = await takenEpoch(pool, holder, replica);
    return epoch === undefined ? holderNow(pool) : new PostgresLease(pool, epoch);
  }

  /** Waits until nobody has the lease and takes it. Throws StoreError when the signal aborts. */
  static async take(pool: Pool, { holder, replica, signal }: Candidate): Promise<PostgresLease> {
    for (;;) {
      if (signal.aborted) throw new StoreError('stopped while waiting for the lease');
      try {
        const taken = await PostgresLease.tryToTake(pool, holder, replica);
        if (typeof taken !== 'string') return taken;
      } catch (error) {
        // One that waits outlives a restart of the server.
        if (!isAway(error)) throw error;
      }
      await sleep(LOOK_MS);
    }
  }

  /**
   * Locks the row until the transaction ends, so that nobody takes the lease in between, and gives the number of commits so
   * far. Throws StoreError where another has it.
   */
  async require(client: PoolClient): Promise<number> {
    const { rows } = await client.query<Row>('SELECT epoch, commits, holder FROM leases WHERE name = $1 FOR UPDATE', [
      LEADER,
    ]);
    const row = rows[0];
    if (row !== undefined && Number(row['epoch']) === this.epoch) return Number(row['commits']);
    throw this.#loseTo(row);
  }

  /** Numbers the commit that the transaction is, and shows that the leader lives. */
  async count(client: PoolClient, commits: number): Promise<void> {
    await client.query(`UPDATE leases SET commits = $2, renewed_ms = ${NOW_MS} WHERE name = $1`, [LEADER, commits]);
  }

  /** Ends the lease, so that the next leader need not wait. */
  async release(): Promise<void> {
    clearInterval(this.#timer);
    await this.#renewing;
    await this.#pool
      .query('UPDATE leases SET renewed_ms = 0 WHERE name = $1 AND epoch = $2', [LEADER, this.epoch])
      .catch((error: unknown) => {
        // A server that is away cannot be told; the lease runs out by itself.
        if (!isAway(error)) throw error;
      });
  }

  async #renew(): Promise<void> {
    try {
      const sql = `UPDATE leases SET renewed_ms = ${NOW_MS} WHERE name = $1 AND epoch = $2`;
      const { rowCount } = await this.#pool.query(sql, [LEADER, this.epoch]);
      if (rowCount === 1) return;
      const { rows } = await this.#pool.query<Row>('SELECT epoch, holder FROM leases WHERE name = $1', [LEADER]);
      this.#loseTo(rows[0]);
    } catch {
      // The next renewal or commit finds out; until then nobody is sure of anything, and commits check for themselves.
    } finally {
      this.#renewing = undefined;
    }
  }

  #loseTo(row: Row | undefined): StoreError {
    clearInterval(this.#timer);
    const error = new StoreError(
      row === undefined
        ? `the lease of epoch ${this.epoch} is gone from the database: this coordinator may not commit any more`
        : `another coordinator leads (${String(row['holder'])}, epoch ${String(row['epoch'])}): ` +
            `this one, of epoch ${this.epoch}, may not commit any more; start it again, and it waits`,
    );
    this.#lose(error);
    return error;
  }
}

/**
 * Compare and set. After the server's start everybody has the time of a lease to come back, so that a leader that lives keeps
 * its lease over the restart.
 */
async function takenEpoch(pool: Pool, holder: string, replica: string): Promise<number | undefined> {
  return withClient(pool, async (client) => {
    await client.query(
      `INSERT INTO leases (name, epoch, holder, renewed_ms, commits) VALUES ($1, 0, '', 0, 0) ON CONFLICT (name) DO NOTHING`,
      [LEADER],
    );
    const sql = `UPDATE leases SET epoch = epoch + 1, holder = $2, replica = $3, renewed_ms = ${NOW_MS}
      WHERE name = $1 AND renewed_ms < ${NOW_MS} - ${LEASE_MS}
        AND (renewed_ms = 0 OR pg_postmaster_start_time() < clock_timestamp() - interval '${LEASE_MS} milliseconds')
      RETURNING epoch`;
    const { rows } = await client.query<Row>(sql, [LEADER, holder, replica]);
    return rows[0] === undefined ? undefined : Number(rows[0]['epoch']);
  });
}

async function holderNow(pool: Pool): Promise<string> {
  const { rows } = await pool.query<Row>('SELECT holder, epoch FROM leases WHERE name = $1', [LEADER]);
  return `${String(rows[0]?.['holder'])}, epoch ${String(rows[0]?.['epoch'])}`;
}
