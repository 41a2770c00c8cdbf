import { accessSync, constants, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { equalBytes, UpdateHeaderSchema, type UpdateHeader } from '@commonweight/proto';
import { sha256 } from '../registry/registry.ts';
import { ServiceError } from '../service.ts';
import { StoreError } from '../store/store.ts';

const SPOOL_FILE = 'relay.sqlite';
const SQLITE_FULL = 13;

const SCHEMA = `CREATE TABLE IF NOT EXISTS updates (update_id BLOB PRIMARY KEY, header BLOB NOT NULL, payload BLOB NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS known (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;`;

/** What a relay keeps. */
export type UpdateSpool = Pick<RelaySpool, 'headers' | 'put' | 'payload' | 'remove' | 'publicKey'>;

/**
 * Updates that a relay took and that have not ended, on its disk before their agents hear that they were taken; and the key that its
 * coordinator signs with. One process has it open: the file is locked for all others.
 */
export class RelaySpool {
  readonly #database: DatabaseSync;
  readonly #bytesMax: number;
  #bytes: number;

  private constructor(database: DatabaseSync, bytesMax: number) {
    this.#database = database;
    this.#bytesMax = bytesMax;
    const row = database.prepare('SELECT coalesce(sum(length(payload)), 0) AS bytes FROM updates').get();
    this.#bytes = Number(row?.['bytes']);
  }

  /** Opens or makes the spool in a folder. Throws StoreError naming what is wrong with it. */
  static open(dir: string, bytesMax: number): RelaySpool {
    try {
      mkdirSync(dir, { recursive: true });
      accessSync(dir, constants.R_OK | constants.W_OK);
    } catch (cause) {
      throw new StoreError(`cannot write to the relay's folder ${dir}: give another with --dir, or change its rights`, {
        cause,
      });
    }
    const path = join(dir, SPOOL_FILE);
    let database: DatabaseSync | undefined;
    try {
      database = new DatabaseSync(path);
      database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
      database.exec(`BEGIN IMMEDIATE; ${SCHEMA} COMMIT;`);
      return new RelaySpool(database, bytesMax);
    } catch (cause) {
      // An open handle would keep the file locked until it is collected.
      if (database?.isOpen === true) database.close();
      const { message } = cause as Error;
      const why = /locked|busy/.test(message)
        ? `is in use: end the relay that runs on this folder, or give another with --dir`
        : `cannot be opened (${message}): remove it, and agents offer again what was in it`;
      throw new StoreError(`${path} ${why}`, { cause });
    }
  }

  /** The headers of all updates. */
  headers(): UpdateHeader[] {
    const rows = this.#database.prepare('SELECT header FROM updates ORDER BY update_id').all();
    return rows.map(({ header }) => fromBinary(UpdateHeaderSchema, header as Uint8Array));
  }

  has(updateId: Uint8Array): boolean {
    return this.#database.prepare('SELECT 1 FROM updates WHERE update_id = ?').get(updateId) !== undefined;
  }

  /** Keeps an update: when this returns, it is on the disk. Throws ServiceError where there is no room. */
  put(header: UpdateHeader, payload: Uint8Array): void {
    if (this.#bytes + payload.length > this.#bytesMax) throw full();
    try {
      const insert = this.#database.prepare('INSERT OR IGNORE INTO updates VALUES (?, ?, ?)');
      const { changes } = insert.run(header.updateId, toBinary(UpdateHeaderSchema, header), payload);
      if (Number(changes) > 0) this.#bytes += payload.length;
    } catch (cause) {
      if ((cause as { errcode?: number }).errcode === SQLITE_FULL) throw full({ cause });
      throw new StoreError(`cannot keep an update in the relay's folder: ${(cause as Error).message}`, { cause });
    }
  }

  /** The bytes of an update; undefined where they are gone, or are not those that its agent signed for. */
  payload({ updateId, payloadDigest }: UpdateHeader): Uint8Array | undefined {
    const payload = this.#database.prepare('SELECT payload FROM updates WHERE update_id = ?').get(updateId)?.[
      'payload'
    ];
    if (!(payload instanceof Uint8Array)) return undefined;
    return equalBytes(sha256(payload), payloadDigest) ? payload : undefined;
  }

  remove(updateId: Uint8Array): void {
    const removed = this.#database
      .prepare('DELETE FROM updates WHERE update_id = ? RETURNING length(payload) AS bytes')
      .get(updateId);
    this.#bytes -= Number(removed?.['bytes'] ?? 0);
  }

  /** The key that the coordinator signs with, as it was first seen. */
  get publicKey(): Uint8Array | undefined {
    const value = this.#database.prepare(`SELECT value FROM known WHERE name = 'public key'`).get()?.['value'];
    return value instanceof Uint8Array ? value : undefined;
  }

  setPublicKey(key: Uint8Array): void {
    this.#database.prepare(`INSERT OR REPLACE INTO known VALUES ('public key', ?)`).run(key);
  }

  close(): void {
    this.#database.close();
  }
}

const full = (options?: ErrorOptions): ServiceError =>
  new ServiceError(
    'resource-exhausted',
    'the relay has no room for more updates: try again once its uplink is back',
    options,
  );
