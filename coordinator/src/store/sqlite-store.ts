import { accessSync, constants, existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { backup, DatabaseSync, type StatementSync } from 'node:sqlite';
import { invariant } from '@commonweight/core';
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
import { migrations, sqliteDialect } from './schema.ts';
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
  type TaskRecord,
  type VariantsRecord,
  type VersionRecord,
} from './store.ts';
import { doneAtOnce, type Work, type WorkValue } from './work.ts';

export const DATABASE_FILE = 'commonweight.sqlite';

const SQLITE_FULL = 13;
const SQLITE_CONSTRAINT = 19;

/** The embedded store: one SQLite file, write-ahead log, every commit flushed to the disk before it is answered. */
export class SqliteStore implements Store {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  #epoch = 0;

  private constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** Lasts as long as the store is open: the file is locked for everybody else. */
  get lease(): Lease {
    return { epoch: this.#epoch, lost: new Promise(() => {}) };
  }

  /** Opens or makes the store of a data folder. Throws StoreError naming what is wrong with it. */
  static open(dataDir: string): SqliteStore {
    try {
      mkdirSync(dataDir, { recursive: true });
      accessSync(dataDir, constants.R_OK | constants.W_OK);
    } catch (cause) {
      throw new StoreError(
        `cannot write to the data folder ${dataDir}: give another with --data, or change its rights`,
        { cause },
      );
    }
    const path = join(dataDir, DATABASE_FILE);
    let database: DatabaseSync | undefined;
    try {
      const isNew = !existsSync(path) || statSync(path).size === 0;
      database = new DatabaseSync(path);
      // Can only be chosen before there are tables. In an older file what is let go is not given back, but is room for what comes.
      if (isNew) database.exec('PRAGMA auto_vacuum = INCREMENTAL');
      database.exec(
        'PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;',
      );
      const store = new SqliteStore(database);
      store.#migrate();
      store.#requireWholeFile(path);
      store.#takeLease();
      return store;
    } catch (cause) {
      // An open handle would keep the file locked until it is collected.
      if (database?.isOpen === true) database.close();
      throw openingError(path, cause);
    }
  }

  /** Copies the database as it is at one instant into a file; commits go on meanwhile. */
  async backup(file: string): Promise<void> {
    try {
      await backup(this.#database, file);
    } catch (cause) {
      throw storeError('read', cause);
    }
  }

  /** The most that the database may take of the disk; what is beyond is refused as if the disk were full. */
  limitBytes(bytesMax: number): void {
    const { page_size: pageSize } = this.#database.prepare('PRAGMA page_size').get() as { page_size: number };
    this.#database.exec(`PRAGMA max_page_count = ${Math.max(1, Math.floor(bytesMax / pageSize))}`);
  }

  #migrate(): void {
    const { user_version: version } = this.#database.prepare('PRAGMA user_version').get() as { user_version: number };
    if (version > migrations.length) {
      throw new StoreError(
        `the database was written by a newer version (schema ${version}): run that version, or restore a backup`,
      );
    }
    for (const [i, migration] of migrations.entries()) {
      if (i < version) continue;
      this.#database.exec(`BEGIN IMMEDIATE; ${migration(sqliteDialect)} PRAGMA user_version = ${i + 1}; COMMIT;`);
    }
    // Taken now, so that a second process on the same folder fails at once and not at its first commit.
    this.#database.exec('BEGIN IMMEDIATE; COMMIT;');
  }

  #takeLease(): void {
    const sql = `INSERT INTO leases (name, epoch, holder, renewed_ms, commits) VALUES ('leader', 1, ?, ?, 0)
      ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1, holder = excluded.holder, renewed_ms = excluded.renewed_ms
      RETURNING epoch`;
    this.#epoch = Number(this.#database.prepare(sql).get(`process ${process.pid}`, Date.now())?.['epoch']);
  }

  /**
   * SQLite reads what was cut off a file's last page as zeros, and does not find a row whose entry in an index is damaged: both are looked
   * for once, with the log written back.
   */
  #requireWholeFile(path: string): void {
    this.#database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    const [pages, bytes] = ['page_count', 'page_size'].map((name) =>
      Number(this.#database.prepare(`PRAGMA ${name}`).get()?.[name]),
    ) as [number, number];
    const { size } = statSync(path);
    if (size < pages * bytes) throw new Error(`malformed: the file has ${size} of ${pages * bytes} bytes`);
    const tables = this.#database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").all();
    for (const { name } of tables) {
      // Chunks are most of the file, and have digests that are looked at whenever they are read.
      if (name === 'blob_chunks' || name === 'retained_chunks') continue;
      const [found] = this.#database.prepare(`PRAGMA integrity_check(${String(name)})`).all();
      if (found?.['integrity_check'] !== 'ok') throw new Error(`malformed: ${String(found?.['integrity_check'])}`);
    }
  }

  async commit({
    version,
    blobs = [],
    receipts = [],
    task,
    variants,
    retained,
    pin,
    candidate,
    result,
    channel,
    reports = [],
  }: Commit): Promise<void> {
    this.#transaction(() => {
      for (const blob of blobs) this.#do(putBlob(blob));
      if (version !== undefined) this.#putVersion(version);
      if (retained !== undefined) {
        invariant(version !== undefined, 'updates are retained with the version that is made of them');
        this.#do(putRetained(version, retained));
      }
      for (const { updateId, receipt, signature } of receipts) {
        this.#run('INSERT OR IGNORE INTO receipts VALUES (?, ?, ?)', updateId, receipt, signature);
      }
      if (candidate !== undefined) this.#do(putCandidate(candidate));
      if (result !== undefined) this.#do(putResult(result));
      if (pin !== undefined) this.#do(putPin(pin));
      if (channel !== undefined) this.#do(putChannel(channel));
      for (const snapshot of reports) this.#do(putSnapshot(snapshot));
      if (task !== undefined) this.#putTask(task);
      if (variants !== undefined) this.#do(putVariants(variants, blobs));
    });
  }

  async collect(model: string, keep: number): Promise<Collected> {
    const collected = this.#transaction(() => this.#do(collect(model, keep)));
    if (collected.blobs > 0) this.#transaction(() => this.#all('PRAGMA incremental_vacuum'));
    return collected;
  }

  async repairBlob(blob: BlobRecord): Promise<boolean> {
    return this.#transaction(() => this.#do(repairBlob(blob)));
  }

  #transaction<T>(work: () => T): T {
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      const result = work();
      this.#database.exec('COMMIT');
      return result;
    } catch (cause) {
      if (this.#database.isOpen && this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw cause instanceof StoreError ? cause : storeError('commit', cause);
    }
  }

  #do<T>(work: Work<T>): T {
    return doneAtOnce(work, ({ sql, values }) => this.#statement(sql).all(...values) as Row[]);
  }

  #putVersion({ model, version, manifest, signature, digest, parentDigest }: VersionRecord): void {
    this.#run(
      'INSERT INTO versions (model, version, manifest, signature, digest, parent_digest) VALUES (?, ?, ?, ?, ?, ?)',
      model,
      version,
      manifest,
      signature,
      digest,
      parentDigest,
    );
  }

  #putTask(record: TaskRecord): void {
    const sql = `INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (task) DO UPDATE SET
      config_json = excluded.config_json, state = excluded.state, round_json = excluded.round_json, counters_json = excluded.counters_json,
      digest = excluded.digest`;
    const { task, configJson, state, roundJson, countersJson } = record;
    this.#run(sql, task, configJson, state, roundJson, countersJson, taskDigest(record));
  }

  async version(model: string, version: number): Promise<VersionRecord | undefined> {
    return versionOf(this.#get('SELECT * FROM versions WHERE model = ? AND version = ?', model, version));
  }

  async newestVersion(model: string): Promise<VersionRecord | undefined> {
    return versionOf(this.#get('SELECT * FROM versions WHERE model = ? ORDER BY version DESC LIMIT 1', model));
  }

  async versions(model: string): Promise<VersionRecord[]> {
    const rows = this.#all('SELECT * FROM versions WHERE model = ? ORDER BY version', model);
    return rows.flatMap((row) => versionOf(row) ?? []);
  }

  async models(): Promise<string[]> {
    return this.#all('SELECT DISTINCT model FROM versions ORDER BY model').map((row) => String(row['model']));
  }

  async variants(model: string, version: number): Promise<VariantsRecord | undefined> {
    return variantsOf(this.#get('SELECT * FROM variant_lists WHERE model = ? AND version = ?', model, version));
  }

  async candidates(model: string): Promise<CandidateRecord[]> {
    return this.#all('SELECT * FROM candidates WHERE model = ? ORDER BY number', model).map(candidateOf);
  }

  async results(of: { task: string } | { model: string }): Promise<ResultRecord[]> {
    const [where, value] = 'task' in of ? ['task', of.task] : ['model', of.model];
    return this.#all(`SELECT * FROM results WHERE ${where} = ? ORDER BY task, round`, value).map(resultOf);
  }

  async channel(model: string, channel: string): Promise<ChannelRecord | undefined> {
    const row = this.#get('SELECT * FROM channels WHERE model = ? AND channel = ?', model, channel);
    return row === undefined ? undefined : channelOf(row);
  }

  async channels(): Promise<ChannelRecord[]> {
    return this.#all('SELECT * FROM channels ORDER BY model, channel').map(channelOf);
  }

  async reportSnapshots(): Promise<ReportSnapshot[]> {
    return this.#all('SELECT * FROM report_snapshots ORDER BY model').flatMap((row) => snapshotOf(row) ?? []);
  }

  async receipt(updateId: Uint8Array): Promise<ReceiptRecord | undefined> {
    const row = this.#get('SELECT * FROM receipts WHERE update_id = ?', updateId);
    if (row === undefined) return undefined;
    return { updateId, receipt: bytesOf(row, 'receipt'), signature: bytesOf(row, 'signature') };
  }

  async tasks(): Promise<TaskRecord[]> {
    return this.#all('SELECT * FROM tasks ORDER BY task').map(taskOf);
  }

  async blobSize(digest: Uint8Array): Promise<number | undefined> {
    const row = this.#get('SELECT size FROM blobs WHERE digest = ? AND collected = 0', digest);
    return row === undefined ? undefined : Number(row['size']);
  }

  async readBlob(digest: Uint8Array, offset: number, length: number): Promise<Uint8Array> {
    const row = this.#get('SELECT size, collected FROM blobs WHERE digest = ?', digest);
    if (row === undefined) return new Uint8Array();
    if (Number(row['collected']) === 1) throw wasCollected(digest);
    const range = { name: blobName(digest), size: Number(row['size']), offset, length };
    const isCollected = async (): Promise<boolean> => (await this.blobSize(digest)) === undefined;
    return unlessCollected(digest, isCollected, () => this.#chunks('blob_chunks WHERE digest', digest, range));
  }

  async pins(model: string): Promise<number[]> {
    return this.#all('SELECT version FROM pins WHERE model = ? ORDER BY version', model).map(numberOf);
  }

  async retainedVersions(model: string): Promise<number[]> {
    const sql = 'SELECT DISTINCT version FROM retained_updates WHERE model = ? ORDER BY version';
    return this.#all(sql, model).map(numberOf);
  }

  async retained(model: string, version: number): Promise<Omit<RetainedUpdate, 'payload'>[]> {
    const sql = 'SELECT update_id, header FROM retained_updates WHERE model = ? AND version = ? ORDER BY update_id';
    return this.#all(sql, model, version).map(retainedOf);
  }

  async retainedPayload(updateId: Uint8Array): Promise<Uint8Array> {
    const row = this.#get('SELECT size FROM retained_updates WHERE update_id = ?', updateId);
    if (row === undefined) throw notRetained(updateId);
    const size = Number(row['size']);
    return this.#chunks('retained_chunks WHERE update_id', updateId, {
      name: updateName(updateId),
      size,
      offset: 0,
      length: size,
    });
  }

  #chunks(where: string, id: Uint8Array, range: Omit<Range, 'place'>): Promise<Uint8Array> {
    return readChunks({ ...range, place: 'the data folder' }, async (position) => {
      const row = this.#get(`SELECT data, data_digest FROM ${where} = ? AND position = ?`, id, position);
      return row === undefined ? undefined : { data: bytesOf(row, 'data'), digest: bytesOf(row, 'data_digest') };
    });
  }

  async close(): Promise<void> {
    this.#database.close();
  }

  #statement(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }

  #run(sql: string, ...values: WorkValue[]): void {
    this.#statement(sql).run(...values);
  }

  #get(sql: string, ...values: WorkValue[]): Row | undefined {
    return reading(() => this.#statement(sql).get(...values) as Row | undefined);
  }

  #all(sql: string, ...values: WorkValue[]): Row[] {
    return reading(() => this.#statement(sql).all(...values) as Row[]);
  }
}

function reading<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw storeError('read', cause);
  }
}

const isDamage = (message: string): boolean => /not a database|malformed|corrupt/i.test(message);

function storeError(deed: 'commit' | 'read', cause: unknown): StoreError {
  const { message, errcode = 0 } = cause as Error & { errcode?: number };
  if (/not open|finalized/.test(message)) return new StoreError('the store is closed', { cause });
  // The low byte is the primary result code: https://sqlite.org/rescode.html.
  const code = errcode & 0xff;
  if (code === SQLITE_FULL) {
    return new StoreError(`cannot ${deed}: the disk is full: make room, and it goes on by itself`, {
      cause,
      kind: 'full',
    });
  }
  const mend = isDamage(message) ? ': the database is damaged, restore the data folder from a backup' : '';
  const kind = code === SQLITE_CONSTRAINT ? 'refused' : 'broken';
  return new StoreError(`cannot ${deed}: ${message}${mend}`, { cause, kind });
}

function openingError(path: string, cause: unknown): StoreError {
  if (cause instanceof StoreError) return cause;
  const { message } = cause as Error;
  if (/locked|busy/i.test(message)) {
    return new StoreError(
      `the database ${path} is in use by another coordinator: stop it, or give another folder with --data`,
      { cause },
    );
  }
  if (isDamage(message)) {
    return new StoreError(
      `the database ${path} is damaged: restore the data folder from a backup, or give a new one with --data`,
      { cause },
    );
  }
  return new StoreError(`cannot open the database ${path}: ${message}`, { cause });
}
