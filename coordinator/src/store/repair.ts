import { equalBytes } from '@commonweight/proto';
import { sha256 } from '../registry/registry.ts';
import { blobName } from './blob-chunks.ts';
import type { StoreReads } from './store.ts';
import type { DamagedBlob } from './verify.ts';

/** Where other copies of blobs are: a backup, another coordinator, what an agent has in its cache. */
export interface BlobSource {
  /** In words for a person. */
  readonly name: string;
  /** The blob as it is there; undefined where it is not. `size` is 0 where nobody knows it. */
  blob(wanted: DamagedBlob): Promise<Uint8Array | undefined>;
}

/** What became of a damaged blob; without `why` it is whole again. */
export interface Repair {
  digest: Uint8Array;
  why?: string;
}

/**
 * Writes damaged blobs anew from another copy, each in one transaction, and only bytes that have the blob's digest: a source need not be
 * trusted. What a source does not have, or has damaged as well, stays as it is, and that is said.
 */
export async function* repairBlobs(
  store: StoreReads,
  blobs: readonly DamagedBlob[],
  source: BlobSource,
): AsyncGenerator<Repair, void, undefined> {
  const done = new Set<string>();
  for (const wanted of blobs) {
    const { digest } = wanted;
    const name = blobName(digest);
    // Versions have blobs in common.
    if (done.has(name)) continue;
    done.add(name);
    let data: Uint8Array | undefined;
    try {
      data = await source.blob(wanted);
    } catch (error) {
      yield { digest, why: `${name} cannot be had from ${source.name}: ${(error as Error).message}` };
      continue;
    }
    if (data === undefined) yield { digest, why: `${source.name} has no ${name}` };
    else if (!equalBytes(sha256(data), digest)) yield { digest, why: `${name} is damaged in ${source.name} as well` };
    else if (await store.repairBlob({ digest, data })) yield { digest };
    else yield { digest, why: `${name} was collected meanwhile` };
  }
}
