import type { Shares } from './shares.ts';

/** A disk or database that did not do what it must. Names the cause and the mend. */
export class StoreError extends Error {
  override name = 'StoreError';
  /**
   * `full`: nothing was written, and it works again once there is room. `refused`: the commit contradicts one that is there.
   * `broken`: what the disk has is not known any more, so nobody may go on; a restart reads it anew. `collected`: what was asked for
   * was let go by policy.
   */
  readonly kind: 'full' | 'refused' | 'broken' | 'collected';

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
  /** Its graph, weights and what its strategy remembered were let go by policy, but for what other versions have in common with it. */
  isCollected?: true;
}

/** An update that stays after a version was made of it, so that the version can be made again. */
export interface RetainedUpdate {
  updateId: Uint8Array;
  /** The wire bytes of its UpdateHeader. */
  header: Uint8Array;
  /** Its payload. Called when it is written, so that one at a time is in memory, and again where a commit is done again. */
  payload(): Uint8Array;
}

/** What a collection let go. */
export interface Collected {
  versions: number[];
  blobs: number;
  bytes: number;
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

/** The forms of a version, as they were signed last. */
export interface VariantsRecord {
  model: string;
  version: number;
  list: Uint8Array;
  signature: Uint8Array;
}

/** What a round made, before a gate decides, or after. */
export interface CandidateRecord {
  model: string;
  number: number;
  /** Candidate bytes as signed. */
  record: Uint8Array;
  signature: Uint8Array;
  isPending: boolean;
  /** Its weights are here besides: it became no version, or not yet. */
  isKept: boolean;
}

/** What a round of an evaluation or of statistics came to. */
export interface ResultRecord {
  task: string;
  round: number;
  model: string;
  /** Result bytes as signed. */
  record: Uint8Array;
  signature: Uint8Array;
}

/** Candidates of a model that became no version and whose weights stay: the newest ones. */
export const CANDIDATES_KEPT = 5;

/** A channel as it was signed last, and what its coordinator knows of it besides. */
export interface ChannelRecord {
  model: string;
  channel: string;
  revision: number;
  /** Versions that it names or may go back to: none of them is collected. 0 is none. */
  version: number;
  candidate: number;
  before: number;
  record: Uint8Array;
  signature: Uint8Array;
  stateJson: string;
}

/** What clients said of a model lately, summed up. */
export interface ReportSnapshot {
  model: string;
  sumsJson: string;
}

/** All that one commit writes: it is there whole, or not at all. */
export interface Commit {
  version?: VersionRecord;
  blobs?: readonly BlobRecord[];
  receipts?: readonly ReceiptRecord[];
  task?: TaskRecord;
  /** Takes the place of what was said of the same version before. */
  variants?: VariantsRecord;
  /** A round that other replicas take updates for from now on; with a version, or closed, what they say of it is not needed any more. */
  round?: { task: string; round: number; open: boolean };
  /** The updates that `version` is made of; of its model those of so many newest versions stay, and older ones go. */
  retained?: { updates: readonly RetainedUpdate[]; versions: number };
  /** Takes the place of what was said of it before; the weights of those that are too many by now are let go. */
  candidate?: CandidateRecord;
  result?: ResultRecord;
  /** A version that no collection takes, or no more. Refused where it was collected already. */
  pin?: { model: string; version: number; isPinned: boolean };
  /** Takes the place of what the channel said before. Refused where that had as high a revision, or where a version is not there whole. */
  channel?: ChannelRecord;
  /** Each takes the place of the one before. */
  reports?: readonly ReportSnapshot[];
}

/** The right to commit: one process has it at a time. */
export interface Lease {
  /** Higher than that of every holder before. */
  readonly epoch: number;
  /** Resolves with what happened once another has it: whoever had it may not go on. */
  readonly lost: Promise<StoreError>;
}

/** What can be read of what survives a crash. Every method throws StoreError. */
export interface StoreReads {
  version(model: string, version: number): Promise<VersionRecord | undefined>;
  newestVersion(model: string): Promise<VersionRecord | undefined>;
  versions(model: string): Promise<VersionRecord[]>;
  models(): Promise<string[]>;
  variants(model: string, version: number): Promise<VariantsRecord | undefined>;
  /** Throws StoreError where one that is read was damaged. */
  channel(model: string, channel: string): Promise<ChannelRecord | undefined>;
  /** All channels, by model and name. */
  channels(): Promise<ChannelRecord[]>;
  /** Those that are whole: of what clients said nothing depends on all of it. */
  reportSnapshots(): Promise<ReportSnapshot[]>;
  receipt(updateId: Uint8Array): Promise<ReceiptRecord | undefined>;
  tasks(): Promise<TaskRecord[]>;
  blobSize(digest: Uint8Array): Promise<number | undefined>;
  /**
   * Bytes of a blob, checked against the digests of its chunks. Throws StoreError naming a damaged blob, and of the kind `collected` where it
   * was let go.
   */
  readBlob(digest: Uint8Array, offset: number, length: number): Promise<Uint8Array>;
  /** What rounds made of a model and gates decide on, or decided, by number. */
  candidates(model: string): Promise<CandidateRecord[]>;
  /** What evaluations and statistics of a task, or of a model, came to, by task and round. */
  results(of: { task: string } | { model: string }): Promise<ResultRecord[]>;
  /** Versions of a model that no collection takes. */
  pins(model: string): Promise<number[]>;
  /** Versions of a model whose updates are here. */
  retainedVersions(model: string): Promise<number[]>;
  /** The updates of a version as they were retained, by id; empty where they were not. */
  retained(model: string, version: number): Promise<Omit<RetainedUpdate, 'payload'>[]>;
  /** The payload of a retained update, checked against the digests of its chunks. Throws StoreError naming it. */
  retainedPayload(updateId: Uint8Array): Promise<Uint8Array>;
  /** Writes a blob anew over what is there of it, in one transaction. False where it was let go: then nothing is written. */
  repairBlob(blob: BlobRecord): Promise<boolean>;
  close(): Promise<void>;
}

/** What survives a crash, for any number of coordinators of which one has the lease. */
export interface SharedStore extends StoreReads {
  readonly shares: Shares;
  /** Takes the lease of the one coordinator that commits, or gives who has it. */
  tryToLead(holder: string): Promise<Store | string>;
  /** Waits for the lease. Throws StoreError when the signal aborts. */
  lead(candidate: { holder: string; signal: AbortSignal }): Promise<Store>;
}

/** What survives a crash. Every method is durable when its promise resolves. */
export interface Store extends StoreReads {
  /** Every commit is refused, with a StoreError of the kind `broken`, once the lease is another's. */
  readonly lease: Lease;
  /** Where several coordinators share the work. */
  readonly shares?: Shares;
  /** One transaction. Throws StoreError where a version or a child of the same parent is there already. */
  commit(commit: Commit): Promise<void>;
  /**
   * Lets the blobs of a model's older versions go, some versions a call, oldest first: all but those of the `keep` newest, of pinned ones,
   * of those that a channel names, of those whose updates are retained with the base that these were trained on, and but what kept versions of any model have in common
   * with them. Manifests, lists of contributions and receipts stay. One transaction.
   */
  collect(model: string, keep: number): Promise<Collected>;
}
