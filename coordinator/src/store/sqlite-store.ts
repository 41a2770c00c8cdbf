import { accessSync, constants, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { backup, DatabaseSync, type StatementSync } from 'node:sqlite';
import { chunksOf, readChunks } from './blob-chunks.ts';
import { bytesOf, taskOf, versionOf, type Row } from './rows.ts';
import { migrations, sqliteDialect } from './schema.ts';
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
      database = new DatabaseSync(path);
      database.exec(
        'PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;',
      );
      const store = new SqliteStore(database);
      store.#migrate();
      store.#requireWhole(path);
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
    const sql = `INSERT INTO leases VALUES ('leader', 1, ?, ?, 0)
      ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1, holder = excluded.holder, renewed_ms = excluded.renewed_ms
      RETURNING epoch`;
    this.#epoch = Number(this.#database.prepare(sql).get(`process ${process.pid}`, Date.now())?.['epoch']);
  }

  /** SQLite reads what was cut off a file's last page as zeros, so the size is looked at once, with the log written back. */
  #requireWhole(path: string): void {
    this.#database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    const [pages, bytes] = ['page_count', 'page_size'].map((name) =>
      Number(this.#database.prepare(`PRAGMA ${name}`).get()?.[name]),
    ) as [number, number];
    const { size } = statSync(path);
    if (size < pages * bytes) throw new Error(`malformed: the file has ${size} of ${pages * bytes} bytes`);
  }

  async commit({ version, blobs = [], receipts = [], task }: Commit): Promise<void> {
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      for (const blob of blobs) this.#putBlob(blob);
      if (version !== undefined) this.#putVersion(version);
      for (const { updateId, receipt, signature } of receipts) {
        this.#run('INSERT OR IGNORE INTO receipts VALUES (?, ?, ?)', updateId, receipt, signature);
      }
      if (task !== undefined) this.#putTask(task);
      this.#database.exec('COMMIT');
    } catch (cause) {
      if (this.#database.isOpen && this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw storeError('commit', cause);
    }
  }

  #putVersion({ model, version, manifest, signature, digest, parentDigest }: VersionRecord): void {
    this.#run(
      'INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?)',
      model,
      version,
      manifest,
      signature,
      digest,
      parentDigest,
    );
  }

  #putTask({ task, configJson, state, roundJson, countersJson }: TaskRecord): void {
    const sql = `INSERT INTO tasks VALUES (?, ?, ?, ?, ?) ON CONFLICT (task) DO UPDATE SET
      config_json = excluded.config_json, state = excluded.state, round_json = excluded.round_json, counters_json = excluded.counters_json`;
    this.#run(sql, task, configJson, state, roundJson, countersJson);
  }

  #putBlob({ digest, data }: BlobRecord): void {
    if (this.#run('INSERT OR IGNORE INTO blobs VALUES (?, ?)', digest, data.length) === 0) return;
    for (const chunk of chunksOf(data)) {
      this.#run('INSERT INTO blob_chunks VALUES (?, ?, ?, ?)', digest, chunk.position, chunk.data, chunk.digest);
    }
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

  async receipt(updateId: Uint8Array): Promise<ReceiptRecord | undefined> {
    const row = this.#get('SELECT * FROM receipts WHERE update_id = ?', updateId);
    if (row === undefined) return undefined;
    return { updateId, receipt: bytesOf(row, 'receipt'), signature: bytesOf(row, 'signature') };
  }

  async tasks(): Promise<TaskRecord[]> {
    return this.#all('SELECT * FROM tasks ORDER BY task').map(taskOf);
  }

  async blobSize(digest: Uint8Array): Promise<number | undefined> {
    const row = this.#get('SELECT size FROM blobs WHERE digest = ?', digest);
    return row === undefined ? undefined : Number(row['size']);
  }

  async readBlob(digest: Uint8Array, offset: number, length: number): Promise<Uint8Array> {
    const size = (await this.blobSize(digest)) ?? 0;
    return readChunks({ digest, size, offset, length, place: 'the data folder' }, async (position) => {
      const sql = 'SELECT data, data_digest FROM blob_chunks WHERE digest = ? AND position = ?';
      const row = this.#get(sql, digest, position);
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

  #run(sql: string, ...values: (string | number | Uint8Array)[]): number {
    return Number(this.#statement(sql).run(...values).changes);
  }

  #get(sql: string, ...values: (string | number | Uint8Array)[]): Row | undefined {
    return reading(() => this.#statement(sql).get(...values) as Row | undefined);
  }

  #all(sql: string, ...values: (string | number | Uint8Array)[]): Row[] {
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
