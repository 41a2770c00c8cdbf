import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { SqliteStore } from '../../coordinator/src/store/sqlite-store.ts';
import type { Commit, ReceiptRecord, Store } from '../../coordinator/src/store/store.ts';
import type { Disk, DiskFaults } from './disk.ts';
import { Violation } from './history.ts';

const never = <T>(): Promise<T> => new Promise<T>(() => {});

/** The production's SQLite file, which must say the same as a model of it after every crash. */
export class SqliteDisk {
  readonly #folder = mkdtempSync(join(tmpdir(), 'commonweight-simulation-'));
  readonly #model: Disk;
  #open: SqliteStore | undefined;

  constructor(model: Disk) {
    this.#model = model;
  }

  open(faults: DiskFaults): { store: Store; kill(): void } {
    const file = SqliteStore.open(this.#folder);
    const model = this.#model.open().store;
    this.#open = file;
    let isAlive = true;
    const kill = (): void => {
      if (!isAlive) return;
      isAlive = false;
      this.#close();
    };
    const latency = async (): Promise<void> => {
      await faults.latency?.();
      return isAlive ? undefined : never();
    };
    const alive = async <T>(read: () => Promise<T>): Promise<T> => {
      const value = isAlive ? await read() : await never<T>();
      await latency();
      return value;
    };
    const die = (): Promise<never> => {
      kill();
      faults.onCrash();
      return never();
    };
    const store: Store = {
      lease: file.lease,
      commit: async (commit) => {
        await latency();
        const crash = faults.crashAt();
        if (crash === 'before') {
          await file.commit(this.#cutOff(commit, file)).catch(() => undefined);
          return die();
        }
        await file.commit(commit);
        await model.commit(commit);
        faults.onCommit(commit);
        return crash === 'after' ? die() : latency();
      },
      version: (name, version) => alive(() => file.version(name, version)),
      newestVersion: (name) => alive(() => file.newestVersion(name)),
      versions: (name) => alive(() => file.versions(name)),
      models: () => alive(() => file.models()),
      variants: (name, version) => alive(() => file.variants(name, version)),
      channel: (name, channel) => alive(() => file.channel(name, channel)),
      channels: () => alive(() => file.channels()),
      reportSnapshots: () => alive(() => file.reportSnapshots()),
      receipt: (updateId) => alive(() => file.receipt(updateId)),
      tasks: () => alive(() => file.tasks()),
      blobSize: (digest) => alive(() => file.blobSize(digest)),
      readBlob: (digest, offset, length) => alive(() => file.readBlob(digest, offset, length)),
      candidates: (name) => alive(() => file.candidates(name)),
      results: (of) => alive(() => file.results(of)),
      pins: (name) => alive(() => file.pins(name)),
      retainedVersions: (name) => alive(() => file.retainedVersions(name)),
      retained: (name, version) => alive(() => file.retained(name, version)),
      retainedPayload: (updateId) => alive(() => file.retainedPayload(updateId)),
      repairBlob: (blob) => alive(() => file.repairBlob(blob)),
      collect: async (name, keep) => {
        const collected = await alive(() => file.collect(name, keep));
        await model.collect(name, keep);
        return collected;
      },
      close: async () => kill(),
    };
    return { store, kill };
  }

  /** Throws Violation where the file does not hold what was committed to it, and nothing else. */
  async compare(name: string, receipts: readonly ReceiptRecord[], missing: readonly Uint8Array[]): Promise<void> {
    this.#close();
    const file = SqliteStore.open(this.#folder);
    this.#open = file;
    const model = this.#model.open().store;
    const same = (what: string, got: unknown, want: unknown): void => {
      if (!isDeepStrictEqual(plain(got), plain(want)))
        throw new Violation(`I2: the file has other ${what} than were committed`);
    };
    same('versions', await file.versions(name), await model.versions(name));
    same('candidates', await file.candidates(name), await model.candidates(name));
    same('results', await file.results({ model: name }), await model.results({ model: name }));
    same('tasks', await file.tasks(), await model.tasks());
    for (const receipt of receipts) same('receipts', await file.receipt(receipt.updateId), receipt);
    for (const updateId of missing) same('receipts', await file.receipt(updateId), undefined);
  }

  /** Ends with it. */
  remove(): void {
    this.#close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #close(): void {
    void this.#open?.close();
    this.#open = undefined;
  }

  /** A commit in the middle of which the file is let go of, with its transaction open: what a killed process leaves. */
  #cutOff(commit: Commit, file: SqliteStore): Commit {
    const close = (): void => {
      if (this.#open === file) this.#close();
    };
    const receipts = {
      *[Symbol.iterator](): Generator<ReceiptRecord> {
        yield* commit.receipts ?? [];
        close();
        throw new Error('the process was killed');
      },
    };
    return { ...commit, receipts: receipts as unknown as readonly ReceiptRecord[] };
  }
}

/** Bytes as text, for a store may give Buffers. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
}
