import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { SignedManifestSchema, type SignedManifest } from '@commonweight/proto';
import type { Release } from '../trust/release.ts';
import { readIfThere, writeAtomic } from './atomic-file.ts';
import { BlobCache } from './blob-cache.ts';

const VERSIONS_KEPT = 2;

/** The last releases of one model that were active, with their blobs. */
export class ReleaseCache {
  readonly blobs: BlobCache;
  readonly #folder: string | undefined;
  #kept: Release[] = [];

  /** Without a folder, in memory. */
  constructor(folder?: string) {
    this.#folder = folder === undefined ? undefined : join(folder, 'releases');
    this.blobs = new BlobCache(folder === undefined ? undefined : join(folder, 'blobs'));
  }

  /** Signed manifests on disk, newest first; not yet verified. */
  async load(): Promise<SignedManifest[]> {
    if (this.#folder === undefined) return [];
    const manifests: SignedManifest[] = [];
    for (const version of await this.#versions()) {
      const bytes = await readIfThere(join(this.#folder, String(version)));
      try {
        if (bytes !== undefined) manifests.push(fromBinary(SignedManifestSchema, bytes));
      } catch {
        // A damaged file is as good as none: the coordinator has the release.
      }
    }
    return manifests;
  }

  /** Takes note that a release became active, and forgets all but the last ones. */
  async keep(release: Release): Promise<void> {
    this.#kept = [release, ...this.#kept.filter(({ version }) => version !== release.version)].slice(0, VERSIONS_KEPT);
    if (this.#folder !== undefined) {
      const bytes = toBinary(SignedManifestSchema, release.signed);
      await writeAtomic(join(this.#folder, String(release.version)), bytes);
      const kept = new Set(this.#kept.map(({ version }) => String(version)));
      for (const name of await readdir(this.#folder)) {
        if (!kept.has(name)) await rm(join(this.#folder, name), { force: true });
      }
    }
    await this.blobs.keepOnly(this.#kept.flatMap(({ graph, weights }) => [graph.digest, weights.digest]));
  }

  async #versions(): Promise<number[]> {
    if (this.#folder === undefined) return [];
    await mkdir(this.#folder, { recursive: true });
    const names = await readdir(this.#folder);
    return names
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .toSorted((a, b) => b - a);
  }
}
