import type { Pool, PoolClient } from 'pg';
import { equalBytes } from '@commonweight/proto';
import { chunksOf, readChunks } from './blob-chunks.ts';
import type { PostgresAddress } from './postgres-address.ts';
import { PostgresLease, type Candidate } from './postgres-lease.ts';
import { bytesOf, taskOf, versionOf, type Row } from './rows.ts';
import { openPool, retrying, storeError, withClient, type Value } from './postgres-pool.ts';
import { migrations, postgresDialect } from './schema.ts';
import {
  StoreError,
  type BlobRecord,
  type Commit,
  type Lease,
  type ReceiptRecord,
  type Store,
  type TaskRecord,
  type VersionRecord,
} from './store.ts';

/** Any number that no other program locks: one process at a time migrates. */
const MIGRATION_LOCK = 6_077_431_001;

/** Who opens the store. */
export interface PostgresOptions extends Candidate {
  /** The key that this process signs with: the first one to open the database decides for all. */
  publicKey: Uint8Array;
}

/** The store in a PostgreSQL database. Open, it has the lease of the one coordinator that commits. */
export class PostgresStore implements Store {
  readonly lease: Lease;
  readonly #pool: Pool;
  readonly #lease: PostgresLease;
  readonly #address: PostgresAddress;
  #queue: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  private constructor(pool: Pool, lease: PostgresLease, address: PostgresAddress) {
    this.#pool = pool;
    this.#lease = lease;
    this.lease = lease;
    this.#address = address;
  }

  /** Makes or migrates the tables and waits for the lease. Throws StoreError naming what is wrong with the database. */
  static async open(address: PostgresAddress, { publicKey, ...candidate }: PostgresOptions): Promise<PostgresStore> {
    const pool = openPool(address);
    try {
      await withClient(pool, (client) => transaction(client, () => migrate(client)));
      await requireKey(pool, publicKey, address);
      return new PostgresStore(pool, await PostgresLease.take(pool, candidate), address);
    } catch (error) {
      await pool.end();
      throw storeError('open the database', error, address);
    }
  }

  commit(commit: Commit): Promise<void> {
    const result = this.#queue.then(() => this.#commit(commit));
    this.#queue = result.catch(() => {});
    return result;
  }

  /**
   * A commit whose answer got lost is looked for by its number under the lock of the lease, which waits for whatever the
   * server still does of it. Only one that is not there is done again.
   */
  async #commit(commit: Commit): Promise<void> {
    this.#requireOpen('commit');
    let number: number | undefined;
    const attempt = (client: PoolClient): Promise<void> =>
      transaction(client, async () => {
        const commits = await this.#lease.require(client);
        if (commits === number) return;
        number = commits + 1;
        await write(client, commit);
        await this.#lease.count(client, number);
      });
    try {
      await retrying(() => withClient(this.#pool, attempt));
    } catch (error) {
      throw storeError('commit', error, this.#address);
    }
  }

  async version(model: string, version: number): Promise<VersionRecord | undefined> {
    return versionOf((await this.#rows('SELECT * FROM versions WHERE model = $1 AND version = $2', model, version))[0]);
  }

  async newestVersion(model: string): Promise<VersionRecord | undefined> {
    const sql = 'SELECT * FROM versions WHERE model = $1 ORDER BY version DESC LIMIT 1';
    return versionOf((await this.#rows(sql, model))[0]);
  }

  async versions(model: string): Promise<VersionRecord[]> {
    const rows = await this.#rows('SELECT * FROM versions WHERE model = $1 ORDER BY version', model);
    return rows.flatMap((row) => versionOf(row) ?? []);
  }

  async models(): Promise<string[]> {
    const rows = await this.#rows('SELECT model FROM versions GROUP BY model ORDER BY model COLLATE "C"');
    return rows.map((row) => String(row['model']));
  }

  async receipt(updateId: Uint8Array): Promise<ReceiptRecord | undefined> {
    const [row] = await this.#rows('SELECT receipt, signature FROM receipts WHERE update_id = $1', updateId);
    if (row === undefined) return undefined;
    return { updateId, receipt: bytesOf(row, 'receipt'), signature: bytesOf(row, 'signature') };
  }

  async tasks(): Promise<TaskRecord[]> {
    return (await this.#rows('SELECT * FROM tasks ORDER BY task COLLATE "C"')).map(taskOf);
  }

  async blobSize(digest: Uint8Array): Promise<number | undefined> {
    const [row] = await this.#rows('SELECT size FROM blobs WHERE digest = $1', digest);
    return row === undefined ? undefined : Number(row['size']);
  }

  async readBlob(digest: Uint8Array, offset: number, length: number): Promise<Uint8Array> {
    const size = (await this.blobSize(digest)) ?? 0;
    const place = `the database ${this.#address.name}`;
    return readChunks({ digest, size, offset, length, place }, async (position) => {
      const sql = 'SELECT data, data_digest FROM blob_chunks WHERE digest = $1 AND position = $2';
      const [row] = await this.#rows(sql, digest, position);
      return row === undefined ? undefined : { data: bytesOf(row, 'data'), digest: bytesOf(row, 'data_digest') };
    });
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#queue;
    await this.#lease.release();
    await this.#pool.end();
  }

  #requireOpen(deed: string): void {
    if (this.#isClosed) throw new StoreError(`cannot ${deed}: the store is closed`);
  }

  async #rows(sql: string, ...values: Value[]): Promise<Row[]> {
    this.#requireOpen('read');
    try {
      const { rows } = await retrying(() => this.#pool.query<Row>(sql, values));
      return rows;
    } catch (error) {
      throw storeError('read', error, this.#address);
    }
  }
}

async function transaction(client: PoolClient, work: () => Promise<void>): Promise<void> {
  await client.query('BEGIN');
  // A failure closes the connection, and with that the server takes back what was done.
  await work();
  await client.query('COMMIT');
}

async function migrate(client: PoolClient): Promise<void> {
  await client.query('SELECT pg_advisory_xact_lock($1)', [MIGRATION_LOCK]);
  await client.query('CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)');
  const { rows } = await client.query<Row>('SELECT version FROM schema_version');
  const version = Number(rows[0]?.['version'] ?? 0);
  if (version > migrations.length) {
    throw new StoreError(
      `the database was written by a newer version (schema ${version}): run that version, or restore a backup`,
    );
  }
  for (const migration of migrations.slice(version)) await client.query(migration(postgresDialect));
  await client.query('DELETE FROM schema_version');
  await client.query('INSERT INTO schema_version VALUES ($1)', [migrations.length]);
}

async function requireKey(pool: Pool, publicKey: Uint8Array, { name }: PostgresAddress): Promise<void> {
  const insert = `INSERT INTO signing_keys VALUES ('coordinator', $1) ON CONFLICT (name) DO NOTHING`;
  await pool.query(insert, [publicKey]);
  const { rows } = await pool.query<Row>(`SELECT public_key FROM signing_keys WHERE name = 'coordinator'`);
  if (rows[0] !== undefined && equalBytes(bytesOf(rows[0], 'public_key'), publicKey)) return;
  throw new StoreError(
    `the database ${name} is signed with another key: copy signing-key.pem of its first coordinator into --data`,
  );
}

async function write(client: PoolClient, { version, blobs = [], receipts = [], task }: Commit): Promise<void> {
  for (const blob of blobs) await putBlob(client, blob);
  if (version !== undefined) {
    const { model, version: number, manifest, signature, digest, parentDigest } = version;
    const values = [model, number, manifest, signature, digest, parentDigest];
    await client.query('INSERT INTO versions VALUES ($1, $2, $3, $4, $5, $6)', values);
  }
  for (const { updateId, receipt, signature } of receipts) {
    const sql = 'INSERT INTO receipts VALUES ($1, $2, $3) ON CONFLICT (update_id) DO NOTHING';
    await client.query(sql, [updateId, receipt, signature]);
  }
  if (task !== undefined) await putTask(client, task);
}

async function putBlob(client: PoolClient, { digest, data }: BlobRecord): Promise<void> {
  const insert = 'INSERT INTO blobs VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING';
  const { rowCount } = await client.query(insert, [digest, data.length]);
  if (rowCount === 0) return;
  for (const chunk of chunksOf(data)) {
    const values = [digest, chunk.position, chunk.data, chunk.digest];
    await client.query('INSERT INTO blob_chunks VALUES ($1, $2, $3, $4)', values);
  }
}

async function putTask(client: PoolClient, record: TaskRecord): Promise<void> {
  const sql = `INSERT INTO tasks VALUES ($1, $2, $3, $4, $5) ON CONFLICT (task) DO UPDATE SET
    config_json = excluded.config_json, state = excluded.state, round_json = excluded.round_json, counters_json = excluded.counters_json`;
  const { task, configJson, state, roundJson, countersJson } = record;
  await client.query(sql, [task, configJson, state, roundJson, countersJson]);
}
