/**
 * The slots of one model on disk: the release that serves and the one before it, each a signed manifest and its blobs.
 * Blobs are written before the manifest that names them and deleted after it, so that a process that is killed in
 * between leaves whole slots.
 */
import { fromBinary, toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import {
  equalBytes,
  ManifestSchema,
  SignedManifestSchema,
  type Manifest,
  type SignedManifest,
} from '@commonweight/proto';
import { ModelError } from '../errors.ts';
import { hex } from '../hex.ts';
import type { Sha256 } from '../platform/platform.ts';
import { readText, writeText, type Storage } from '../platform/storage.ts';
import { sizeOf, type Release } from '../trust/release.ts';
import { BlobCache } from './blob-cache.ts';

const SLOTS = 2;

export class ReleaseCache {
  readonly blobs: BlobCache;
  readonly #storage: Storage;
  readonly #model: string;
  readonly #folder: string;
  readonly #bytesMax: number;
  #guest: Manifest | undefined;

  /** `bytesMax` is what manifests and blobs may take; it has to hold two releases. */
  constructor(storage: Storage, folder: string, sha256: Sha256, bytesMax: number = Infinity) {
    this.#storage = storage;
    this.#model = folder;
    this.#folder = `${folder}/releases`;
    this.#bytesMax = bytesMax;
    this.blobs = new BlobCache(storage, `${folder}/blobs`, sha256);
  }

  /** Signed manifests, newest first, but for one that is to come before all; not yet verified. */
  async load(first?: number): Promise<SignedManifest[]> {
    const slots = await this.#slots();
    const ordered = slots.toSorted((a, b) => Number(b.version === first) - Number(a.version === first));
    return ordered.map(({ signed }) => signed);
  }

  /** Makes room for a release beside the one that serves: the slot before it goes first. Throws ModelError where two do not fit. */
  async makeRoom(release: Release, serving: Release | undefined): Promise<void> {
    if (this.#bytesMax === Infinity) return;
    const two = bytesOf([release.manifest, ...(serving === undefined ? [] : [serving.manifest])]);
    if (two > this.#bytesMax) {
      throw new ModelError(
        `version ${release.version} of '${release.model}' (${sizeOf(release)} bytes) and the one that serves need ${two} bytes on disk, and diskBytesMax is ${this.#bytesMax}`,
      );
    }
    const slots = await this.#slots();
    const all = [release.manifest, ...slots.map(({ manifest }) => manifest)];
    if (bytesOf(all) <= this.#bytesMax) return;
    for (const { version } of slots) if (version !== serving?.version) await this.#remove(version);
    await this.#prune([release.manifest]);
  }

  /** Takes note that a release became active, and forgets all but it and the one that it may fall back to. */
  async keep({ version, signed }: Release, fallback: number | undefined): Promise<void> {
    await this.#storage.write(`${this.#folder}/${version}`, toBinary(SignedManifestSchema, signed));
    const others = (await this.#versions()).filter((other) => other !== version);
    // Where the one to fall back to had to make room, the next newest takes its place.
    const kept = others.includes(fallback ?? -1) ? [fallback] : others.slice(0, SLOTS - 1);
    for (const old of others) if (!kept.includes(old)) await this.#remove(old);
    await this.#prune([]);
  }

  /** Whether a release that served here was made of the same bytes. */
  async holds({ graph, weights }: Release): Promise<boolean> {
    const slots = await this.#slots();
    return slots.some(({ manifest }) =>
      [graph, weights].every((part) => manifest.artifacts.some(({ digest }) => equalBytes(digest, part.digest))),
    );
  }

  /** The version that passed its probation last. */
  committed(): Promise<number | undefined> {
    return this.#noted('committed');
  }

  commit(version: number): Promise<void> {
    return writeText(this.#storage, `${this.#model}/committed`, String(version));
  }

  /** The version that served last, where that need not be the newest on disk. */
  current(): Promise<number | undefined> {
    return this.#noted('current');
  }

  point(version: number): Promise<void> {
    return writeText(this.#storage, `${this.#model}/current`, String(version));
  }

  async #noted(name: 'committed' | 'current'): Promise<number | undefined> {
    const text = await readText(this.#storage, `${this.#model}/${name}`);
    return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  }

  /** Keeps the blobs of one more release, which never serves from here, until another takes its place. */
  host(guest: Manifest | undefined): void {
    this.#guest = guest;
  }

  /** Forgets a release that must not serve again. */
  async drop(version: number): Promise<void> {
    await this.#remove(version);
    await this.#prune([]);
  }

  #remove(version: number): Promise<void> {
    return this.#storage.remove(`${this.#folder}/${version}`);
  }

  async #prune(also: readonly Manifest[]): Promise<void> {
    for (const name of await this.#storage.list(this.#folder)) {
      // What a crash left half written.
      if (!/^\d+$/.test(name)) await this.#storage.remove(`${this.#folder}/${name}`);
    }
    const guests = this.#guest === undefined ? [] : [this.#guest];
    const manifests = [...also, ...guests, ...(await this.#slots()).map(({ manifest }) => manifest)];
    await this.blobs.keepOnly(manifests.flatMap(({ artifacts }) => artifacts.map(({ digest }) => digest)));
  }

  async #slots(): Promise<{ version: number; signed: SignedManifest; manifest: Manifest }[]> {
    const slots = [];
    for (const version of await this.#versions()) {
      const bytes = await this.#storage.read(`${this.#folder}/${version}`);
      const signed = bytes === undefined ? undefined : decoded(SignedManifestSchema, bytes);
      const manifest = signed === undefined ? undefined : decoded(ManifestSchema, signed.manifest);
      if (signed !== undefined && manifest !== undefined) slots.push({ version, signed, manifest });
    }
    return slots;
  }

  /** Versions that have a file, newest first. */
  async #versions(): Promise<number[]> {
    const names = await this.#storage.list(this.#folder);
    const versions = names.filter((name) => /^\d+$/.test(name)).map(Number);
    return versions.toSorted((a, b) => b - a);
  }
}

/** Bytes of the blobs that an SDK fetches for some releases; each is held once. */
function bytesOf(manifests: readonly Manifest[]): number {
  const fetched = manifests.flatMap(({ artifacts }) =>
    artifacts.filter(({ role }) => role === 'graph' || role === 'weights'),
  );
  const sizes = new Map(fetched.map(({ digest, size }) => [hex(digest), Number(size)]));
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}

/** The message, or undefined where a damaged file holds none: the coordinator has the release too. */
function decoded<D extends DescMessage>(schema: D, bytes: Uint8Array): MessageShape<D> | undefined {
  try {
    return fromBinary(schema, bytes);
  } catch {
    return undefined;
  }
}
