import type { Pool, PoolClient } from 'pg';
import { invariant } from '@commonweight/core';
import { equalBytes } from '@commonweight/proto';
import {
  blobName,
  notRetained,
  readChunks,
  unlessCollected,
  updateName,
  wasCollected,
  type Range,
} from './blob-chunks.ts';
import { putBlob, repairBlob } from './blob-work.ts';
import { putCandidate, putResult } from './candidate-work.ts';
import { putChannel, putSnapshot } from './channel-work.ts';
import { collect, putPin, putVariants } from './collect-work.ts';
import type { PostgresAddress } from './postgres-address.ts';
import { PostgresLease, type Candidate } from './postgres-lease.ts';
import { notify, PostgresShares } from './postgres-shares.ts';
import { putRetained } from './retained-work.ts';
import {
  bytesOf,
  candidateOf,
  channelOf,
  numberOf,
  resultOf,
  retainedOf,
  snapshotOf,
  taskDigest,
  taskOf,
  variantsOf,
  versionOf,
  type Row,
} from './rows.ts';
import { openPool, retrying, storeError, withClient, type Value } from './postgres-pool.ts';
import { migrations, postgresDialect } from './schema.ts';
import type { Shares } from './shares.ts';
import {
  StoreError,
  type BlobRecord,
  type CandidateRecord,
  type ChannelRecord,
  type Collected,
  type Commit,
  type Lease,
  type ReceiptRecord,
  type ReportSnapshot,
  type ResultRecord,
  type RetainedUpdate,
  type Store,
  type SharedStore,
  type TaskRecord,
  type VariantsRecord,
  type VersionRecord,
} from './store.ts';
import { doneInTurn, type Work } from './work.ts';

/** Any number that no other program locks: one process at a time migrates. */
const MIGRATION_LOCK = 6_077_431_001;

/** What is in a PostgreSQL database, for any number of coordinators. */
export class PostgresReads implements SharedStore {
  readonly shares: PostgresShares;
  readonly #pool: Pool;
  readonly #address: PostgresAddress;
  /** The lease of this process, once it leads. */
  readonly #leading: { lease?: PostgresLease };
  #isClosed = false;

  private constructor(
    pool: Pool,
    address: PostgresAddress,
    shares: PostgresShares,
    leading: { lease?: PostgresLease },
  ) {
    this.#pool = pool;
    this.#address = address;
    this.shares = shares;
    this.#leading = leading;
  }

  /**
   * Makes or migrates the tables and joins the replicas. The first one to open a database decides which key signs for all. Throws
   * StoreError naming what is wrong with the database.
   */
  static async open(address: PostgresAddress, publicKey: Uint8Array): Promise<PostgresReads> {
    const pool = openPool(address);
    try {
      await withClient(pool, (client) => transaction(client, () => migrate(client)));
      await requireKey(pool, publicKey, address);
      const leading: { lease?: PostgresLease } = {};
      const shares = await PostgresShares.join(pool, address, () => leading.lease);
      return new PostgresReads(pool, address, shares, leading);
    } catch (error) {
      await pool.end();
      throw storeError('open the database', error, address);
    }
  }

  /** Takes the lease of the one coordinator that commits, or gives who has it. Throws StoreError. */
  async tryToLead(holder: string): Promise<PostgresStore | string> {
    try {
      const lease = await PostgresLease.tryToTake(this.#pool, holder, this.shares.replica);
      return typeof lease === 'string' ? lease : this.#led(lease);
    } catch (error) {
      throw storeError('take the lease', error, this.#address);
    }
  }

  /** Waits for the lease. Throws StoreError when the signal aborts. */
  async lead(candidate: Omit<Candidate, 'replica'>): Promise<PostgresStore> {
    try {
      return this.#led(await PostgresLease.take(this.#pool, { ...candidate, replica: this.shares.replica }));
    } catch (error) {
      throw storeError('take the lease', error, this.#address);
    }
  }

  #led(lease: PostgresLease): PostgresStore {
    this.#leading.lease = lease;
    return new PostgresStore(this, this.#pool, lease, this.#address);
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

  async variants(model: string, version: number): Promise<VariantsRecord | undefined> {
    const sql = 'SELECT * FROM variant_lists WHERE model = $1 AND version = $2';
    return variantsOf((await this.#rows(sql, model, version))[0]);
  }

  async candidates(model: string): Promise<CandidateRecord[]> {
    return (await this.#rows('SELECT * FROM candidates WHERE model = $1 ORDER BY number', model)).map(candidateOf);
  }

  async results(of: { task: string } | { model: string }): Promise<ResultRecord[]> {
    const [where, value] = 'task' in of ? ['task', of.task] : ['model', of.model];
    const sql = `SELECT * FROM results WHERE ${where} = $1 ORDER BY task COLLATE "C", round`;
    return (await this.#rows(sql, value)).map(resultOf);
  }

  async channel(model: string, channel: string): Promise<ChannelRecord | undefined> {
    const [row] = await this.#rows('SELECT * FROM channels WHERE model = $1 AND channel = $2', model, channel);
    return row === undefined ? undefined : channelOf(row);
  }

  async channels(): Promise<ChannelRecord[]> {
    const rows = await this.#rows('SELECT * FROM channels ORDER BY model COLLATE "C", channel COLLATE "C"');
    return rows.map(channelOf);
  }

  async reportSnapshots(): Promise<ReportSnapshot[]> {
    const rows = await this.#rows('SELECT * FROM report_snapshots ORDER BY model COLLATE "C"');
    return rows.flatMap((row) => snapshotOf(row) ?? []);
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
    const [row] = await this.#rows('SELECT size FROM blobs WHERE digest = $1 AND collected = 0', digest);
    return row === undefined ? undefined : Number(row['size']);
  }

  async readBlob(digest: Uint8Array, offset: number, length: number): Promise<Uint8Array> {
    const [row] = await this.#rows('SELECT size, collected FROM blobs WHERE digest = $1', digest);
    if (row === undefined) return new Uint8Array();
    if (Number(row['collected']) === 1) throw wasCollected(digest);
    const range = { name: blobName(digest), size: Number(row['size']), offset, length };
    const isCollected = async (): Promise<boolean> => (await this.blobSize(digest)) === undefined;
    return unlessCollected(digest, isCollected, () => this.#chunks('blob_chunks WHERE digest', digest, range));
  }

  async pins(model: string): Promise<number[]> {
    return (await this.#rows('SELECT version FROM pins WHERE model = $1 ORDER BY version', model)).map(numberOf);
  }

  async retainedVersions(model: string): Promise<number[]> {
    const sql = 'SELECT DISTINCT version FROM retained_updates WHERE model = $1 ORDER BY version';
    return (await this.#rows(sql, model)).map(numberOf);
  }

  async retained(model: string, version: number): Promise<Omit<RetainedUpdate, 'payload'>[]> {
    const sql = 'SELECT update_id, header FROM retained_updates WHERE model = $1 AND version = $2 ORDER BY update_id';
    return (await this.#rows(sql, model, version)).map(retainedOf);
  }

  async retainedPayload(updateId: Uint8Array): Promise<Uint8Array> {
    const [row] = await this.#rows('SELECT size FROM retained_updates WHERE update_id = $1', updateId);
    if (row === undefined) throw notRetained(updateId);
    const size = Number(row['size']);
    const range = { name: updateName(updateId), size, offset: 0, length: size };
    return this.#chunks('retained_chunks WHERE update_id', updateId, range);
  }

  /** Needs no lease: what it writes is what its name says. Done twice it is the same. */
  async repairBlob(blob: BlobRecord): Promise<boolean> {
    this.#requireOpen('repair a blob');
    let isKnown = false;
    try {
      await retrying(() =>
        withClient(this.#pool, (client) =>
          transaction(client, async () => {
            isKnown = await done(client, repairBlob(blob));
          }),
        ),
      );
    } catch (error) {
      throw storeError('repair a blob', error, this.#address);
    }
    return isKnown;
  }

  #chunks(where: string, id: Uint8Array, range: Omit<Range, 'place'>): Promise<Uint8Array> {
    return readChunks({ ...range, place: `the database ${this.#address.name}` }, async (position) => {
      const sql = `SELECT data, data_digest FROM ${where} = $1 AND position = $2`;
      const [row] = await this.#rows(sql, id, position);
      return row === undefined ? undefined : { data: bytesOf(row, 'data'), digest: bytesOf(row, 'data_digest') };
    });
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.shares.close();
    await this.#leading.lease?.release();
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

/** The store of the coordinator that leads. */
export class PostgresStore implements Store {
  readonly lease: Lease;
  readonly shares: Shares;
  readonly #reads: PostgresReads;
  readonly #pool: Pool;
  readonly #lease: PostgresLease;
  readonly #address: PostgresAddress;
  #queue: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(reads: PostgresReads, pool: Pool, lease: PostgresLease, address: PostgresAddress) {
    this.#reads = reads;
    this.shares = reads.shares;
    this.#pool = pool;
    this.#lease = lease;
    this.lease = lease;
    this.#address = address;
  }

  commit(commit: Commit): Promise<void> {
    return this.#queued((client) => write(client, commit));
  }

  async collect(model: string, keep: number): Promise<Collected> {
    let collected: Collected = { versions: [], blobs: 0, bytes: 0 };
    await this.#queued(async (client) => {
      collected = await done(client, collect(model, keep));
    });
    return collected;
  }

  #queued(work: (client: PoolClient) => Promise<void>): Promise<void> {
    const result = this.#queue.then(() => this.#commit(work));
    this.#queue = result.catch(() => {});
    return result;
  }

  /**
   * A commit whose answer got lost is looked for by its number under the lock of the lease, which waits for whatever the
   * server still does of it. Only one that is not there is done again.
   */
  async #commit(work: (client: PoolClient) => Promise<void>): Promise<void> {
    if (this.#isClosed) throw new StoreError('cannot commit: the store is closed');
    let number: number | undefined;
    const attempt = (client: PoolClient): Promise<void> =>
      transaction(client, async () => {
        const commits = await this.#lease.require(client);
        if (commits === number) return;
        number = commits + 1;
        await work(client);
        await this.#lease.count(client, number);
      });
    try {
      await retrying(() => withClient(this.#pool, attempt));
    } catch (error) {
      throw storeError('commit', error, this.#address);
    }
  }

  version(model: string, version: number): Promise<VersionRecord | undefined> {
    return this.#reads.version(model, version);
  }

  newestVersion(model: string): Promise<VersionRecord | undefined> {
    return this.#reads.newestVersion(model);
  }

  versions(model: string): Promise<VersionRecord[]> {
    return this.#reads.versions(model);
  }

  models(): Promise<string[]> {
    return this.#reads.models();
  }

  variants(model: string, version: number): Promise<VariantsRecord | undefined> {
    return this.#reads.variants(model, version);
  }

  candidates(model: string): Promise<CandidateRecord[]> {
    return this.#reads.candidates(model);
  }

  results(of: { task: string } | { model: string }): Promise<ResultRecord[]> {
    return this.#reads.results(of);
  }

  channel(model: string, channel: string): Promise<ChannelRecord | undefined> {
    return this.#reads.channel(model, channel);
  }

  channels(): Promise<ChannelRecord[]> {
    return this.#reads.channels();
  }

  reportSnapshots(): Promise<ReportSnapshot[]> {
    return this.#reads.reportSnapshots();
  }

  receipt(updateId: Uint8Array): Promise<ReceiptRecord | undefined> {
    return this.#reads.receipt(updateId);
  }

  tasks(): Promise<TaskRecord[]> {
    return this.#reads.tasks();
  }

  blobSize(digest: Uint8Array): Promise<number | undefined> {
    return this.#reads.blobSize(digest);
  }

  readBlob(digest: Uint8Array, offset: number, length: number): Promise<Uint8Array> {
    return this.#reads.readBlob(digest, offset, length);
  }

  pins(model: string): Promise<number[]> {
    return this.#reads.pins(model);
  }

  retainedVersions(model: string): Promise<number[]> {
    return this.#reads.retainedVersions(model);
  }

  retained(model: string, version: number): Promise<Omit<RetainedUpdate, 'payload'>[]> {
    return this.#reads.retained(model, version);
  }

  retainedPayload(updateId: Uint8Array): Promise<Uint8Array> {
    return this.#reads.retainedPayload(updateId);
  }

  repairBlob(blob: BlobRecord): Promise<boolean> {
    return this.#reads.repairBlob(blob);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#queue;
    await this.#reads.close();
  }
}

async function transaction(client: PoolClient, work: () => Promise<void>): Promise<void> {
  await client.query('BEGIN');
  // A failure closes the connection, and with that the server takes back what was done.
  await work();
  await client.query('COMMIT');
}

const done = <T>(client: PoolClient, work: Work<T>): Promise<T> =>
  doneInTurn(work, async ({ sql, values }) => {
    let count = 0;
    return (
      await client.query<Row>(
        sql.replaceAll('?', () => `$${++count}`),
        [...values],
      )
    ).rows;
  });

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

async function write(client: PoolClient, commit: Commit): Promise<void> {
  const { version, blobs = [], receipts = [], task, variants, round, retained, pin } = commit;
  const { candidate, result, channel, reports = [] } = commit;
  for (const blob of blobs) await done(client, putBlob(blob));
  if (version !== undefined) {
    const { model, version: number, manifest, signature, digest, parentDigest } = version;
    const values = [model, number, manifest, signature, digest, parentDigest];
    const columns = 'model, version, manifest, signature, digest, parent_digest';
    await client.query(`INSERT INTO versions (${columns}) VALUES ($1, $2, $3, $4, $5, $6)`, values);
  }
  if (retained !== undefined) {
    invariant(version !== undefined, 'updates are retained with the version that is made of them');
    await done(client, putRetained(version, retained));
  }
  for (const { updateId, receipt, signature } of receipts) {
    const sql = 'INSERT INTO receipts VALUES ($1, $2, $3) ON CONFLICT (update_id) DO NOTHING';
    await client.query(sql, [updateId, receipt, signature]);
  }
  if (candidate !== undefined) await done(client, putCandidate(candidate));
  if (result !== undefined) await done(client, putResult(result));
  if (pin !== undefined) await done(client, putPin(pin));
  if (channel !== undefined) await done(client, putChannel(channel));
  for (const snapshot of reports) await done(client, putSnapshot(snapshot));
  if (variants !== undefined) await done(client, putVariants(variants, blobs));
  if (round !== undefined) await putRound(client, round);
  if (task === undefined) return;
  await putTask(client, task);
  await notify(client, { kind: 'task', task: task.task });
}

/** An open round begins without claims; what is left of older ones goes. */
async function putRound(client: PoolClient, { task, round, open }: Commit['round'] & {}): Promise<void> {
  const sql = `INSERT INTO rounds VALUES ($1, $2, $3) ON CONFLICT (task) DO UPDATE SET round = excluded.round, open = excluded.open`;
  await client.query(sql, [task, round, Number(open)]);
  await client.query('DELETE FROM claims WHERE task = $1', [task]);
  await client.query('DELETE FROM partial_chunks WHERE task = $1', [task]);
}

async function putTask(client: PoolClient, record: TaskRecord): Promise<void> {
  const sql = `INSERT INTO tasks VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (task) DO UPDATE SET
    config_json = excluded.config_json, state = excluded.state, round_json = excluded.round_json, counters_json = excluded.counters_json,
    digest = excluded.digest`;
  const { task, configJson, state, roundJson, countersJson } = record;
  await client.query(sql, [task, configJson, state, roundJson, countersJson, taskDigest(record)]);
}
