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
import { Announcements } from './announcements.ts';
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
  readonly #announcements = new Announcements<SignedManifest>();

  constructor(store: StoreReads, registry: RegistryReads, log: (line: string) => void) {
    this.#store = store;
    this.#registry = registry;
    this.#log = log;
  }

  announce(model: string, release: SignedManifest): void {
    this.#announcements.announce(model, release);
  }

  /** Models that somebody watches. */
  watched(): string[] {
    return this.#announcements.watched();
  }

  watchModel(model: string, onRelease: (release: SignedManifest) => void): () => void {
    return this.#announcements.watch(model, onRelease, {
      first: this.#registry.release(model, 0),
      onError: (error) => this.#log(`watch of ${model}: ${error.message}`),
    });
  }

  watchReleases(onRelease: (model: string, release: SignedManifest) => void): () => void {
    return this.#announcements.watchAll(onRelease);
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
