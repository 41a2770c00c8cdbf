import { CodecError, weightsFromBytes, weightsToBytes } from '@commonweight/core';
import { deltaPaths, type Artifact, type DeltaPath, type Manifest } from '@commonweight/proto';
import type { BlobCache } from '../cache/blob-cache.ts';
import { asError, ModelError, TransportError } from '../errors.ts';

/** What deltas are made to weights with. */
export interface DeltaSources {
  blobs: Pick<BlobCache, 'get' | 'has' | 'isOf'>;
  /** A delta's bytes, checked against its digest; it is one of those on the way. */
  download(delta: Artifact, way: DeltaPath): Promise<Uint8Array>;
  /** Hears why deltas that were there could not be used: the weights are fetched whole then. */
  onFault(error: Error): void;
}

/**
 * The weights of a version, made of older ones that are here and of deltas, where those are fewer bytes; undefined where there is no such
 * way, or where what came of it are not the weights of the manifest. Throws TransportError where a link that breaks may hold again.
 */
export async function weightsByDeltas(
  manifest: Pick<Manifest, 'artifacts' | 'earlierDeltas' | 'version' | 'model'>,
  weights: Artifact,
  { blobs, download, onFault }: DeltaSources,
): Promise<Uint8Array | undefined> {
  for (const way of deltaPaths(manifest, weights)) {
    const base = (await blobs.has(way.from)) ? await blobs.get(way.from) : undefined;
    if (base === undefined) continue;
    try {
      // A page whose versions have no deltas need not load what reads them.
      const { stepped } = await import('./stepped.ts');
      let made = weightsFromBytes(base);
      for (const delta of way.deltas) made = await stepped(made, await download(delta, way));
      const bytes = weightsToBytes(made);
      if (await blobs.isOf(weights.digest, bytes)) return bytes;
      throw new CodecError('they lead to other weights');
    } catch (cause) {
      // What is gone or damaged there is not to be had by trying again; a link is, and who gave up wants nothing else.
      if (!isFault(cause)) throw cause;
      const name = `version ${manifest.version} of '${manifest.model}'`;
      onFault(
        new ModelError(`${name} is fetched whole, for its deltas are no use: ${asError(cause).message}`, { cause }),
      );
      return undefined;
    }
  }
  return undefined;
}

function isFault(cause: unknown): boolean {
  if (!(cause instanceof TransportError)) return cause instanceof CodecError;
  return cause.code === 'corrupted' || (!cause.passing && cause.code !== 'cancelled');
}
