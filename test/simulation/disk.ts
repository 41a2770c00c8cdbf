import type { Commit, ReceiptRecord, Store, TaskRecord, VersionRecord } from '../../coordinator/src/store/store.ts';
import { StoreError } from '../../coordinator/src/store/store.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const never = <T>(): Promise<T> => new Promise<T>(() => {});

/** What a commit that is under way when the power fails does: it is not there, or it is there and nobody was told. */
export type CrashPoint = 'before' | 'after';

export interface DiskFaults {
  /** Asked at each commit: whether the coordinator dies at it. */
  crashAt(): CrashPoint | undefined;
  /** The coordinator died. */
  onCrash(): void;
  /** A commit is durable. */
  onCommit(commit: Commit): void;
}

/** Faults to plant, so that it shows whether the checker sees them. */
export interface PlantedOnDisk {
  /** A version becomes durable without the receipts and the round that belong to it. */
  tearsCommits?: boolean;
  /** Commits are said to be durable, and a crash takes the last ones back. */
  losesCommits?: boolean;
  /** A version's receipts are not part of its commit. */
  losesReceipts?: boolean;
}

/**
 * A disk that outlives coordinators, and the store that each of them sees. After a crash, calls of the dead one neither return nor change
 * anything. It keeps the contract of `test/contract/store.ts`.
 */
export class Disk {
  readonly #versions = new Map<string, VersionRecord>();
  readonly #children = new Map<string, true>();
  readonly #blobs = new Map<string, Uint8Array>();
  readonly #receipts = new Map<string, ReceiptRecord>();
  readonly #tasks = new Map<string, TaskRecord>();
  #commits = 0;
  #epoch = 0;
  /** What a disk that loses commits goes back to. */
  #saved: Map<string, unknown>[] = [];

  /** The store of one life of a coordinator. */
  open(faults?: DiskFaults, planted: PlantedOnDisk = {}): { store: Store; kill(): void } {
    let isAlive = true;
    const kill = (): void => {
      if (isAlive && planted.losesCommits === true) this.#restore();
      isAlive = false;
    };
    let isClosed = false;
    const closed = <T>(): Promise<T> => Promise.reject(new StoreError('the store is closed'));
    const alive = <T>(value: T): Promise<T> => (isClosed ? closed<T>() : isAlive ? Promise.resolve(value) : never<T>());
    const ofModel = (model: string): VersionRecord[] =>
      [...this.#versions.values()].filter((one) => one.model === model).sort((a, b) => a.version - b.version);
    const store: Store = {
      lease: { epoch: (this.#epoch += 1), lost: new Promise(() => {}) },
      commit: (commit) => {
        if (isClosed) return closed();
        if (!isAlive) return never();
        const crash = faults?.crashAt();
        if (crash !== 'before') {
          try {
            const isTorn = crash === 'after' && planted.tearsCommits === true && commit.version !== undefined;
            const { receipts: _, ...rest } = commit;
            const isBare = planted.losesReceipts === true && commit.version !== undefined;
            this.#apply(isBare ? rest : isTorn ? { version: commit.version!, blobs: commit.blobs ?? [] } : commit);
            if ((this.#commits += 1) % 3 === 0) this.#snapshot();
          } catch (error) {
            return Promise.reject(error as Error);
          }
          faults?.onCommit(commit);
        }
        if (crash === undefined) return Promise.resolve();
        kill();
        faults?.onCrash();
        return never();
      },
      version: (model, version) => alive(this.#versions.get(`${model} ${version}`)),
      newestVersion: (model) => alive(ofModel(model).at(-1)),
      versions: (model) => alive(ofModel(model)),
      models: () => alive([...new Set([...this.#versions.values()].map(({ model }) => model))].sort()),
      receipt: (updateId) => alive(this.#receipts.get(hex(updateId))),
      tasks: () => alive([...this.#tasks.values()].sort((a, b) => (a.task < b.task ? -1 : 1))),
      blobSize: (digest) => alive(this.#blobs.get(hex(digest))?.length),
      readBlob: (digest, offset, length) =>
        alive(this.#blobs.get(hex(digest))?.slice(offset, offset + length) ?? new Uint8Array()),
      close: async () => void (isClosed = true),
    };
    return { store, kill };
  }

  blob(digest: Uint8Array): Uint8Array | undefined {
    return this.#blobs.get(hex(digest));
  }

  receipt(updateId: string): ReceiptRecord | undefined {
    return this.#receipts.get(updateId);
  }

  versions(model: string): VersionRecord[] {
    return [...this.#versions.values()].filter((one) => one.model === model).sort((a, b) => a.version - b.version);
  }

  #snapshot(): void {
    this.#saved = this.#tables().map((table) => new Map<string, unknown>(table));
  }

  #restore(): void {
    for (const [i, table] of this.#tables().entries()) {
      table.clear();
      for (const [key, value] of this.#saved[i] ?? []) table.set(key, value);
    }
  }

  #tables(): Map<string, unknown>[] {
    return [this.#versions, this.#children, this.#blobs, this.#receipts, this.#tasks];
  }

  #apply({ version, blobs = [], receipts = [], task }: Commit): void {
    if (version !== undefined) {
      const child = `${version.model} ${hex(version.parentDigest)}`;
      const key = `${version.model} ${version.version}`;
      const isKnown = [...this.#versions.values()].some(({ digest }) => hex(digest) === hex(version.digest));
      if (isKnown || this.#versions.has(key) || this.#children.has(child)) {
        throw new StoreError(`cannot commit: version ${version.version} of ${version.model} is there already`);
      }
      this.#versions.set(key, version);
      this.#children.set(child, true);
    }
    for (const { digest, data } of blobs) this.#blobs.set(hex(digest), data.slice());
    for (const receipt of receipts) {
      const key = hex(receipt.updateId);
      if (!this.#receipts.has(key)) this.#receipts.set(key, receipt);
    }
    if (task !== undefined) this.#tasks.set(task.task, task);
  }
}
