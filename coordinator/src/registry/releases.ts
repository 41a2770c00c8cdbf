import { create } from '@bufbuild/protobuf';
import {
  CHUNK_BYTES_MAX,
  KeptCandidateSchema,
  ModelSummarySchema,
  type KeptCandidate,
  type ModelSummary,
  type SignedManifest,
  type SignedResult,
} from '@commonweight/proto';
import { ServiceError, type BlobPart, type KeptVersions } from '../service.ts';
import { StoreError, type StoreReads } from '../store/store.ts';
import { candidateToWire } from './candidates.ts';
import { ReadCache } from './read-cache.ts';
import { parameters, type RegistryReads } from './registry.ts';
import { resultToWire } from './results.ts';

/** Bytes of blobs that were read last. */
const CACHE_BYTES = 64 * 1024 * 1024;
/** Records in one answer: they must have room in a message. */
const LISTED_MAX = 500;

/** What apps are told of models: versions and blobs as they are, and each new version when it is committed. */
export class Releases {
  readonly #store: StoreReads;
  readonly #registry: RegistryReads;
  readonly #log: (line: string) => void;
  readonly #cache = new ReadCache(CACHE_BYTES);
  readonly #ofModel = new Map<string, Set<(release: SignedManifest) => void>>();
  readonly #ofAll = new Set<(model: string, release: SignedManifest) => void>();

  constructor(store: StoreReads, registry: RegistryReads, log: (line: string) => void) {
    this.#store = store;
    this.#registry = registry;
    this.#log = log;
  }

  announce(model: string, release: SignedManifest): void {
    for (const onRelease of this.#ofModel.get(model) ?? []) onRelease(release);
    for (const onRelease of this.#ofAll) onRelease(model, release);
  }

  /** Models that somebody watches. */
  watched(): string[] {
    return [...this.#ofModel.keys()];
  }

  watchModel(model: string, onRelease: (release: SignedManifest) => void): () => void {
    // What is committed while the newest is being read is told by the watcher itself, and then the older is not told any more.
    let told = false;
    const tell = (release: SignedManifest): void => {
      told = true;
      onRelease(release);
    };
    const stop = watch(this.#ofModel, model, tell);
    const first = this.#registry.release(model, 0);
    first.then(
      (release) => (told ? undefined : tell(release)),
      (error: unknown) => this.#log(`watch of ${model}: ${(error as Error).message}`),
    );
    return stop;
  }

  watchReleases(onRelease: (model: string, release: SignedManifest) => void): () => void {
    this.#ofAll.add(onRelease);
    return () => this.#ofAll.delete(onRelease);
  }

  async readBlob(digest: Uint8Array, offset: number, lengthMax: number): Promise<BlobPart> {
    const totalSize = (await this.#store.blobSize(digest)) ?? 0;
    if (offset > totalSize && totalSize > 0)
      throw new ServiceError('invalid', `offset ${offset} is beyond the blob's ${totalSize} bytes`);
    try {
      const length = Math.min(lengthMax, CHUNK_BYTES_MAX);
      const read = (): Promise<Uint8Array> => this.#store.readBlob(digest, offset, length);
      // One that was let go is to say so, however lately it was read.
      const key = `${Buffer.from(digest).toString('hex')} ${offset} ${length}`;
      const data = await (totalSize === 0 ? read() : this.#cache.get(key, read));
      if (totalSize > 0 || (await this.#store.blobSize(digest)) !== undefined) return { data, totalSize };
    } catch (cause) {
      if (!(cause instanceof StoreError) || cause.kind !== 'collected') throw cause;
      throw new ServiceError('not-found', cause.message, { cause });
    }
    const name = Buffer.from(digest).toString('hex').slice(0, 64);
    throw new ServiceError('not-found', `there is no blob ${name}`);
  }

  async listKept(model: string): Promise<KeptVersions> {
    await this.#registry.release(model, 0);
    const collected = (await this.#store.versions(model)).filter(({ isCollected }) => isCollected === true);
    return {
      collected: collected.map(({ version }) => version),
      pinned: await this.#store.pins(model),
      retained: await this.#store.retainedVersions(model),
    };
  }

  getModel(model: string, version: number): Promise<SignedManifest> {
    return this.#registry.release(model, version);
  }

  async listModels(): Promise<ModelSummary[]> {
    const models = await this.#store.models();
    return Promise.all(
      models.map(async (model) => {
        const manifest = await this.#registry.newest(model);
        const { version: newestVersion, createdMs } = manifest;
        return create(ModelSummarySchema, { model, newestVersion, createdMs, parameters: parameters(manifest) });
      }),
    );
  }

  /** The newest candidates of a model, in order. */
  async listCandidates(model: string): Promise<KeptCandidate[]> {
    await this.#registry.release(model, 0);
    const records = (await this.#store.candidates(model)).slice(-LISTED_MAX);
    return records.map((record) =>
      create(KeptCandidateSchema, {
        candidate: candidateToWire(this.#registry.publicKey, record),
        kept: record.isKept,
      }),
    );
  }

  /** The newest results of a task, or of a model, in order. */
  async listResults(of: { task: string } | { model: string }): Promise<SignedResult[]> {
    const records = (await this.#store.results(of)).slice(-LISTED_MAX);
    return records.map((record) => resultToWire(this.#registry.publicKey, record));
  }

  async listVersions(model: string): Promise<SignedManifest[]> {
    await this.#registry.release(model, 0);
    return (await this.#store.versions(model)).map((record) => this.#registry.toWire(record));
  }
}

/** Adds a watcher of a key. Gives what takes it away again. */
export function watch<T>(watchers: Map<string, Set<T>>, key: string, watcher: T): () => void {
  const set = watchers.get(key) ?? new Set();
  watchers.set(key, set.add(watcher));
  return () => {
    set.delete(watcher);
    if (set.size === 0) watchers.delete(key);
  };
}
