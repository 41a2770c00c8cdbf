import { fromBinary } from '@bufbuild/protobuf';
import { CandidateSchema, ManifestSchema, VariantListSchema, type Variant } from '@commonweight/proto';
import { notRetained, wasCollected } from '../../coordinator/src/store/blob-chunks.ts';
import type {
  BlobRecord,
  CandidateRecord,
  ChannelRecord,
  Collected,
  Commit,
  ReceiptRecord,
  ReportSnapshot,
  ResultRecord,
  RetainedUpdate,
  Store,
  StoreReads,
  TaskRecord,
  VariantsRecord,
  VersionRecord,
} from '../../coordinator/src/store/store.ts';
import { CANDIDATES_KEPT, StoreError } from '../../coordinator/src/store/store.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const never = <T>(): Promise<T> => new Promise<T>(() => {});

/** An update on the disk. */
type Kept = Omit<RetainedUpdate, 'payload'> & { model: string; version: number; payload: Uint8Array };

/** Reads of what is kept for audits and by policy. */
type Keeping = Pick<
  StoreReads,
  'candidates' | 'results' | 'pins' | 'retainedVersions' | 'retained' | 'retainedPayload' | 'repairBlob'
>;

/** What a commit that is under way when the power fails does: it is not there, or it is there and nobody was told. */
export type CrashPoint = 'before' | 'after';

export interface DiskFaults {
  /** Asked at each commit: whether the coordinator dies at it. */
  crashAt(): CrashPoint | undefined;
  /** The coordinator died. */
  onCrash(): void;
  /** A read or half a write takes until this resolves. */
  latency?(): Promise<void>;
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
  readonly #retained = new Map<string, Kept>();
  readonly #pins = new Map<string, { model: string; version: number }>();
  /** Digests of what was let go. */
  readonly #collected = new Map<string, true>();
  readonly #variants = new Map<string, VariantsRecord>();
  readonly #candidates = new Map<string, CandidateRecord>();
  readonly #results = new Map<string, ResultRecord>();
  readonly #channels = new Map<string, ChannelRecord>();
  readonly #reports = new Map<string, ReportSnapshot>();
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
    const latency = async (): Promise<void> => {
      await faults?.latency?.();
      return isAlive ? undefined : never();
    };
    /** What is read is what was there when it was asked for. */
    const alive = async <T>(value: T): Promise<T> => {
      if (isClosed) return closed<T>();
      await latency();
      return value;
    };
    const ofModel = (model: string): VersionRecord[] =>
      [...this.#versions.values()].filter((one) => one.model === model).sort((a, b) => a.version - b.version);
    const store: Store = {
      lease: { epoch: (this.#epoch += 1), lost: new Promise(() => {}) },
      commit: async (commit) => {
        if (isClosed) return closed();
        await latency();
        const crash = faults?.crashAt();
        if (crash !== 'before') {
          try {
            const isTorn = crash === 'after' && planted.tearsCommits === true && commit.version !== undefined;
            const { receipts: _, ...rest } = commit;
            const isBare = planted.losesReceipts === true && commit.version !== undefined;
            this.apply(isBare ? rest : isTorn ? { version: commit.version!, blobs: commit.blobs ?? [] } : commit);
            if ((this.#commits += 1) % 3 === 0) this.#snapshot();
          } catch (error) {
            return Promise.reject(error as Error);
          }
          faults?.onCommit(commit);
        }
        if (crash === undefined) return latency();
        kill();
        faults?.onCrash();
        return never();
      },
      version: (model, version) => alive(this.#versions.get(`${model} ${version}`)),
      newestVersion: (model) => alive(ofModel(model).at(-1)),
      versions: (model) => alive(ofModel(model)),
      models: () => alive(this.models()),
      variants: (model, version) => alive(this.variants(model, version)),
      channel: (model, channel) => alive(this.channel(model, channel)),
      channels: () => alive(this.channels()),
      reportSnapshots: () => alive(this.reportSnapshots()),
      receipt: (updateId) => alive(this.#receipts.get(hex(updateId))),
      tasks: () => alive(this.tasks()),
      blobSize: (digest) => alive(this.#blobs.get(hex(digest))?.length),
      readBlob: async (digest, offset, length) => (await alive(this.read(digest)))().slice(offset, offset + length),
      ...this.keeping((read) => alive(undefined).then(read)),
      collect: async (model, keep) => {
        await alive(undefined);
        return this.collect(model, keep);
      },
      close: async () => void (isClosed = true),
    };
    return { store, kill };
  }

  tasks(): TaskRecord[] {
    return [...this.#tasks.values()].sort((a, b) => (a.task < b.task ? -1 : 1));
  }

  models(): string[] {
    return [...new Set([...this.#versions.values()].map(({ model }) => model))].sort();
  }

  blob(digest: Uint8Array): Uint8Array | undefined {
    return this.#blobs.get(hex(digest));
  }

  /** What reads a blob as it is now. Throws StoreError where it was let go. */
  read(digest: Uint8Array): () => Uint8Array {
    const blob = this.blob(digest);
    const isCollected = this.#collected.has(hex(digest));
    return () => {
      if (isCollected) throw wasCollected(digest);
      return blob ?? new Uint8Array();
    };
  }

  /** What a store says of all that is kept for audits and by policy; each is read at the instant that `at` chooses. */
  keeping(at: <T>(read: () => T) => Promise<T>): Keeping {
    return {
      candidates: (model) => at(() => this.candidates(model)),
      results: (of) =>
        at(() =>
          [...this.#results.values()]
            .filter((one) => ('task' in of ? one.task === of.task : one.model === of.model))
            .sort((a, b) => (a.task === b.task ? a.round - b.round : a.task < b.task ? -1 : 1)),
        ),
      pins: (model) => at(() => sorted([...this.#pins.values()].filter((pin) => pin.model === model))),
      retainedVersions: (model) => at(() => sorted(this.#keptOf(model))),
      retained: (model, version) =>
        at(() =>
          this.#keptOf(model)
            .filter((one) => one.version === version)
            .map(({ updateId, header }) => ({ updateId, header })),
        ),
      retainedPayload: (updateId) =>
        at(() => {
          const kept = this.#retained.get(hex(updateId));
          if (kept === undefined) throw notRetained(updateId);
          return kept.payload.slice();
        }),
      repairBlob: ({ digest, data }: BlobRecord) =>
        at(() => {
          if (this.#collected.has(hex(digest))) return false;
          this.#blobs.set(hex(digest), data.slice());
          return true;
        }),
    };
  }

  /** All at once: a model of a store has no need of small transactions. */
  collect(model: string, keep: number): Collected {
    const all = this.versions(model);
    const first = (all.at(-1)?.version ?? 0) - keep;
    const audited = new Set(this.#keptOf(model).flatMap(({ version }) => [version, version - 1]));
    const inChannels = this.channels().filter((one) => one.model === model);
    const named = new Set(inChannels.flatMap(({ version, candidate, before }) => [version, candidate, before]));
    const old = all.filter(
      ({ version, isCollected }) =>
        isCollected !== true &&
        version <= first &&
        !this.#pins.has(`${model} ${version}`) &&
        !audited.has(version) &&
        !named.has(version),
    );
    for (const one of old) this.#versions.set(`${model} ${one.version}`, { ...one, isCollected: true });
    const gone = this.#letGo(old.flatMap((one) => this.#blobsOf(one)));
    return { versions: old.map(({ version }) => version), ...gone };
  }

  /** Those that nothing needs which is kept. */
  #letGo(ids: readonly string[]): { blobs: number; bytes: number } {
    const versions = [...this.#versions.values()].filter(({ isCollected }) => isCollected !== true);
    const candidates = [...this.#candidates.values()].filter(({ isKept }) => isKept);
    const needed = new Set([...versions.flatMap((one) => this.#blobsOf(one)), ...candidates.flatMap(blobsOfCandidate)]);
    const gone = { blobs: 0, bytes: 0 };
    for (const id of new Set(ids)) {
      const blob = this.#blobs.get(id);
      if (needed.has(id) || blob === undefined) continue;
      this.#blobs.delete(id);
      this.#collected.set(id, true);
      gone.blobs += 1;
      gone.bytes += blob.length;
    }
    return gone;
  }

  candidates(model: string): CandidateRecord[] {
    return [...this.#candidates.values()].filter((one) => one.model === model).sort((a, b) => a.number - b.number);
  }

  #putCandidate(candidate: CandidateRecord): void {
    this.#candidates.set(`${candidate.model} ${candidate.number}`, candidate);
    const old = this.candidates(candidate.model)
      .filter(({ isKept, isPending }) => isKept && !isPending)
      .toReversed()
      .slice(CANDIDATES_KEPT);
    for (const one of old) this.#candidates.set(`${one.model} ${one.number}`, { ...one, isKept: false });
    this.#letGo(old.flatMap(blobsOfCandidate));
  }

  #blobsOf({ model, version, manifest }: VersionRecord): string[] {
    const listed = this.variants(model, version);
    const forms = listed === undefined ? [] : formsOf(listed);
    return [...fromBinary(ManifestSchema, manifest).artifacts, ...forms].map(({ digest }) => hex(digest));
  }

  #keptOf(model: string): Kept[] {
    const kept = [...this.#retained].filter(([, one]) => one.model === model);
    return kept.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
  }

  receipt(updateId: string): ReceiptRecord | undefined {
    return this.#receipts.get(updateId);
  }

  receipts(): ReceiptRecord[] {
    return [...this.#receipts.values()];
  }

  variants(model: string, version: number): VariantsRecord | undefined {
    return this.#variants.get(`${model} ${version}`);
  }

  channel(model: string, channel: string): ChannelRecord | undefined {
    return this.#channels.get(`${model} ${channel}`);
  }

  channels(): ChannelRecord[] {
    return [...this.#channels].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
  }

  reportSnapshots(): ReportSnapshot[] {
    return [...this.#reports.values()].sort((a, b) => (a.model < b.model ? -1 : 1));
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
    return [
      this.#versions,
      this.#children,
      this.#blobs,
      this.#receipts,
      this.#tasks,
      this.#retained,
      this.#pins,
      this.#collected,
      this.#variants,
      this.#candidates,
      this.#results,
      this.#channels,
      this.#reports,
    ];
  }

  /** One commit, at one instant. Throws StoreError where it contradicts what is there. */
  apply(commit: Commit): void {
    const { version, blobs = [], receipts = [], task, variants, retained, pin } = commit;
    const { candidate, result, channel, reports = [] } = commit;
    if (result !== undefined && this.#results.has(`${result.task} ${result.round}`))
      throw new StoreError(`cannot commit: round ${result.round} of ${result.task} has a result already`);
    const named = variants === undefined ? undefined : this.#versions.get(`${variants.model} ${variants.version}`);
    if (variants !== undefined && named === undefined && version === undefined) {
      throw new StoreError(`cannot commit: there is no version ${variants.version} of ${variants.model}`);
    }
    if (named?.isCollected === true && blobs.length > 0)
      throw new StoreError('it was collected', { kind: 'collected' });
    const updates = retained?.updates.map(({ payload, ...rest }) => ({ ...rest, payload: payload().slice() }));
    if (pin !== undefined) this.#pin(pin);
    if (channel !== undefined) this.#putChannel(channel);
    for (const snapshot of reports) this.#reports.set(snapshot.model, snapshot);
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
    for (const { digest, data } of blobs) {
      this.#blobs.set(hex(digest), data.slice());
      this.#collected.delete(hex(digest));
    }
    if (version !== undefined && retained !== undefined) this.#retain(version, updates ?? [], retained.versions);
    for (const receipt of receipts) {
      const key = hex(receipt.updateId);
      if (!this.#receipts.has(key)) this.#receipts.set(key, receipt);
    }
    if (candidate !== undefined) this.#putCandidate(candidate);
    if (result !== undefined) this.#results.set(`${result.task} ${result.round}`, result);
    if (task !== undefined) this.#tasks.set(task.task, task);
    if (variants !== undefined) this.#putVariants(variants);
  }

  /** Forms of the list before that are in no other go. */
  #putVariants(variants: VariantsRecord): void {
    const before = this.variants(variants.model, variants.version);
    this.#variants.set(`${variants.model} ${variants.version}`, variants);
    const now = new Set(formsOf(variants).map(({ digest }) => hex(digest)));
    const gone = before === undefined ? [] : formsOf(before).map(({ digest }) => hex(digest));
    if (gone.some((id) => !now.has(id))) this.#letGo(gone);
  }

  #pin({ model, version, isPinned }: Commit['pin'] & {}): void {
    const key = `${model} ${version}`;
    const record = this.#versions.get(key);
    if (!isPinned) return void this.#pins.delete(key);
    if (record === undefined || record.isCollected === true) throw new StoreError(`cannot pin version ${version}`);
    this.#pins.set(key, { model, version });
  }

  #putChannel(channel: ChannelRecord): void {
    const key = `${channel.model} ${channel.channel}`;
    const isThere = (version: number): boolean => {
      const record = this.#versions.get(`${channel.model} ${version}`);
      return version === 0 || (record !== undefined && record.isCollected !== true);
    };
    const isNewer = channel.revision > (this.#channels.get(key)?.revision ?? 0);
    if (!isNewer || ![channel.version, channel.candidate].every(isThere))
      throw new StoreError('the channel is refused', { kind: 'refused' });
    this.#channels.set(key, channel);
  }

  #retain(
    { model, version }: VersionRecord,
    updates: readonly Omit<Kept, 'model' | 'version'>[],
    versions: number,
  ): void {
    for (const one of updates) this.#retained.set(hex(one.updateId), { ...one, model, version });
    for (const [id, one] of this.#retained) {
      if (one.model === model && one.version <= version - versions) this.#retained.delete(id);
    }
  }
}

const blobsOfCandidate = ({ record }: CandidateRecord): string[] =>
  fromBinary(CandidateSchema, record).artifacts.map(({ digest }) => hex(digest));

const formsOf = ({ list }: VariantsRecord): Variant[] => fromBinary(VariantListSchema, list).variants;

const sorted = (all: readonly { version: number }[]): number[] =>
  [...new Set(all.map(({ version }) => version))].sort((a, b) => a - b);
