import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fromBinary, toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { ManifestSchema, SignedManifestSchema, type SignedManifest } from '@commonweight/proto';
import type { Release } from '../trust/release.ts';
import { readIfThere, writeAtomic } from './atomic-file.ts';
import { BlobCache } from './blob-cache.ts';

const VERSIONS_KEPT = 2;

/** The last releases of one model that were active, with their blobs. */
export class ReleaseCache {
  readonly blobs: BlobCache;
  readonly #folder: string | undefined;
  #inMemory: SignedManifest[] = [];

  /** Without a folder, in memory. */
  constructor(folder?: string) {
    this.#folder = folder === undefined ? undefined : join(folder, 'releases');
    this.blobs = new BlobCache(folder === undefined ? undefined : join(folder, 'blobs'));
  }

  /** Signed manifests, newest first; not yet verified. */
  async load(): Promise<SignedManifest[]> {
    if (this.#folder === undefined) return this.#inMemory;
    const manifests: SignedManifest[] = [];
    for (const version of await versionsIn(this.#folder)) {
      const bytes = await readIfThere(join(this.#folder, String(version)));
      const manifest = bytes === undefined ? undefined : decoded(SignedManifestSchema, bytes);
      if (manifest !== undefined) manifests.push(manifest);
    }
    return manifests;
  }

  /** Takes note that a release became active, and forgets all but the last ones. */
  async keep({ version, signed }: Release): Promise<void> {
    if (this.#folder === undefined) {
      this.#inMemory = [signed, ...this.#inMemory].slice(0, VERSIONS_KEPT);
    } else {
      await writeAtomic(join(this.#folder, String(version)), toBinary(SignedManifestSchema, signed));
      for (const old of (await versionsIn(this.#folder)).slice(VERSIONS_KEPT)) {
        await rm(join(this.#folder, String(old)), { force: true });
      }
    }
    const manifests = (await this.load()).map(({ manifest }) => decoded(ManifestSchema, manifest));
    const artifacts = manifests.flatMap((manifest) => manifest?.artifacts ?? []);
    await this.blobs.keepOnly(artifacts.map(({ digest }) => digest));
  }
}

/** Versions that have a file, newest first. */
async function versionsIn(folder: string): Promise<number[]> {
  await mkdir(folder, { recursive: true });
  const names = await readdir(folder);
  const versions = names.filter((name) => /^\d+$/.test(name)).map(Number);
  return versions.toSorted((a, b) => b - a);
}

/** The message, or undefined where a damaged file holds none: the coordinator has the release too. */
function decoded<D extends DescMessage>(schema: D, bytes: Uint8Array): MessageShape<D> | undefined {
  try {
    return fromBinary(schema, bytes);
  } catch {
    return undefined;
  }
}
