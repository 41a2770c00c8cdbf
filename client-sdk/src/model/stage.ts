import { joinModel, readModel, weightsFromBytes } from '@commonweight/core';
import type { Artifact } from '@commonweight/proto';
import type { BlobCache } from '../cache/blob-cache.ts';
import type { ModelLink } from '../connection/model-link.ts';
import { ModelError } from '../errors.ts';
import { Leased } from '../runtime/lease.ts';
import type { Engine, Session } from '../runtime/ort-engine.ts';
import { isFinite } from '../runtime/tensor.ts';
import type { Release } from '../trust/release.ts';
import { contractIn, type Contract } from './contract.ts';
import { zerosFor } from './inputs.ts';

/** A release that is loaded, warmed up and ready to serve. */
export interface Staged {
  release: Release;
  contract: Contract;
  session: Leased<Session>;
}

/** The two blobs of a release, from the cache or else from the coordinator. */
export interface ReleaseBytes {
  graph: Uint8Array;
  weights: Uint8Array;
}

export async function fetchRelease(
  release: Release,
  blobs: BlobCache,
  link: ModelLink | undefined,
): Promise<ReleaseBytes> {
  const bytesOf = async ({ role, digest, size }: Artifact): Promise<Uint8Array> => {
    const cached = await blobs.get(digest);
    if (cached !== undefined) return cached;
    if (link === undefined) throw new ModelError(`the ${role} of version ${release.version} is not on disk any more`);
    const fetched = await link.download(digest, Number(size));
    await blobs.put(digest, fetched);
    return fetched;
  };
  // In turn: the graph is small and mostly there already.
  return { graph: await bytesOf(release.graph), weights: await bytesOf(release.weights) };
}

/** Loads a release beside the one that serves, and runs it once. Throws ModelError where it must not serve. */
export async function stage(release: Release, { graph, weights }: ReleaseBytes, engine: Engine): Promise<Staged> {
  const name = `version ${release.version} of '${release.model}'`;
  const contract = contractIn(release.manifest);
  let session: Session;
  try {
    session = await engine.load(joinModel(readModel(graph), weightsFromBytes(weights)));
  } catch (cause) {
    throw new ModelError(`${name} cannot be loaded: ${(cause as Error).message}`, { cause });
  }
  try {
    const outputs = await session.run(zerosFor(contract.inputs));
    const broken = Object.entries(outputs).find(([, { data }]) => !isFinite(data));
    if (broken !== undefined) throw new Error(`output '${broken[0]}' is not finite`);
    const missing = contract.outputs.find((output) => !(output.name in outputs));
    if (missing !== undefined) throw new Error(`output '${missing.name}' is missing`);
  } catch (cause) {
    await session.release();
    throw new ModelError(`${name} failed its warm-up: ${(cause as Error).message}`, { cause });
  }
  return { release, contract, session: new Leased(session, (each) => each.release()) };
}
