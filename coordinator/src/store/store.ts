/** A disk or database that did not do what it must. Names the cause and the mend. */
export class StoreError extends Error {
  override name = 'StoreError';
  /**
   * `full`: nothing was written, and it works again once there is room. `refused`: the commit contradicts one that is there.
   * `broken`: what the disk has is not known any more, so nobody may go on; a restart reads it anew.
   */
  readonly kind: 'full' | 'refused' | 'broken';

  constructor(message: string, { kind = 'broken', ...options }: ErrorOptions & { kind?: StoreError['kind'] } = {}) {
    super(message, options);
    this.kind = kind;
  }
}

export interface VersionRecord {
  model: string;
  version: number;
  manifest: Uint8Array;
  signature: Uint8Array;
  /** SHA-256 of the manifest bytes: what the next version names as its parent. */
  digest: Uint8Array;
  parentDigest: Uint8Array;
}

export interface ReceiptRecord {
  updateId: Uint8Array;
  receipt: Uint8Array;
  signature: Uint8Array;
}

export interface BlobRecord {
  digest: Uint8Array;
  data: Uint8Array;
}

export interface TaskRecord {
  task: string;
  configJson: string;
  /** 'paused', 'running' or 'finished'. */
  state: string;
  /** The round machine's state and the counters, as JSON. */
  roundJson: string;
  countersJson: string;
}

/** All that one commit writes: it is there whole, or not at all. */
export interface Commit {
  version?: VersionRecord;
  blobs?: readonly BlobRecord[];
  receipts?: readonly ReceiptRecord[];
  task?: TaskRecord;
}

/** The right to commit: one process has it at a time. */
export interface Lease {
  /** Higher than that of every holder before. */
  readonly epoch: number;
  /** Resolves with what happened once another has it: whoever had it may not go on. */
  readonly lost: Promise<StoreError>;
}

/** What survives a crash. Every method is durable when its promise resolves. */
export interface Store {
  /** Every commit is refused, with a StoreError of the kind `broken`, once the lease is another's. */
  readonly lease: Lease;
  /** One transaction. Throws StoreError where a version or a child of the same parent is there already. */
  commit(commit: Commit): Promise<void>;
  version(model: string, version: number): Promise<VersionRecord | undefined>;
  newestVersion(model: string): Promise<VersionRecord | undefined>;
  versions(model: string): Promise<VersionRecord[]>;
  models(): Promise<string[]>;
  receipt(updateId: Uint8Array): Promise<ReceiptRecord | undefined>;
  tasks(): Promise<TaskRecord[]>;
  blobSize(digest: Uint8Array): Promise<number | undefined>;
  /** Bytes of a blob, checked against the digests of its chunks. Throws StoreError naming a damaged blob. */
  readBlob(digest: Uint8Array, offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}
