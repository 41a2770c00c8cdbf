import type { Storage } from '@commonweight/client-sdk';

/** IndexedDB, as much of it as is used here. */
interface DatabaseRequest<T> {
  result: T;
  error: Error | null;
  onsuccess: (() => void) | null;
  onerror: (() => void) | null;
  onupgradeneeded?: (() => void) | null;
  onblocked?: (() => void) | null;
}
interface ObjectStore {
  get(key: string): DatabaseRequest<Uint8Array | undefined>;
  put(value: Uint8Array, key: string): DatabaseRequest<unknown>;
  delete(key: string): DatabaseRequest<unknown>;
  getAllKeys(range: unknown): DatabaseRequest<string[]>;
}
interface Transaction {
  error: Error | null;
  oncomplete: (() => void) | null;
  onabort: (() => void) | null;
  objectStore(name: string): ObjectStore;
}
interface Database {
  createObjectStore(name: string): void;
  transaction(store: string, mode: 'readonly' | 'readwrite', options: { durability: 'strict' }): Transaction;
  close(): void;
}

const { indexedDB, IDBKeyRange } = globalThis as unknown as {
  indexedDB?: { open(name: string, version: number): DatabaseRequest<Database> };
  IDBKeyRange: { bound(lower: string, upper: string): unknown };
};

const FILES = 'files';

/** Files in a database of the page's origin. A write that has resolved outlives the tab and the power. */
export class DatabaseStorage implements Storage {
  readonly #name: string;
  readonly #database: Database;

  private constructor(name: string, database: Database) {
    this.#name = name;
    this.#database = database;
  }

  /** Throws where the browser keeps nothing for this page, as in some private windows. */
  static async open(place: string): Promise<DatabaseStorage> {
    const name = `commonweight ${place}`;
    if (indexedDB === undefined) throw new Error('this browser has no IndexedDB: it could not keep an update');
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(FILES);
    return new DatabaseStorage(name, await done(request));
  }

  where(path: string): string {
    return `'${path}' of the browser's database '${this.#name}'`;
  }

  async read(path: string): Promise<Uint8Array | undefined> {
    return await this.#ask((files) => files.get(path));
  }

  async write(path: string, bytes: Uint8Array): Promise<void> {
    await this.#change((files) => files.put(bytes, path));
  }

  async remove(path: string): Promise<void> {
    await this.#change((files) => files.delete(path));
  }

  async list(folder: string): Promise<string[]> {
    const start = `${folder}/`;
    const keys = await this.#ask((files) => files.getAllKeys(IDBKeyRange.bound(start, `${start}\uFFFF`)));
    return keys.map((key) => key.slice(start.length)).filter((name) => !name.includes('/'));
  }

  close(): void {
    this.#database.close();
  }

  #ask<T>(question: (files: ObjectStore) => DatabaseRequest<T>): Promise<T> {
    return done(question(this.#transaction('readonly').objectStore(FILES)));
  }

  /** Resolves once it is on the disk, which is later than the request's success. */
  async #change(change: (files: ObjectStore) => unknown): Promise<void> {
    const transaction = this.#transaction('readwrite');
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error('the browser gave a write up'));
    change(transaction.objectStore(FILES));
    await promise;
  }

  #transaction(mode: 'readonly' | 'readwrite'): Transaction {
    return this.#database.transaction(FILES, mode, { durability: 'strict' });
  }
}

function done<T>(request: DatabaseRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error('the browser gave no reason'));
  });
}
