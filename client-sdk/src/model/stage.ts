import { joinModel, readModel, weightsFromBytes } from '@commonweight/core';
import type { Artifact } from '@commonweight/proto';
import type { BlobCache } from '../cache/blob-cache.ts';
import type { ModelLink } from '../connection/model-link.ts';
import { ModelError, TransportError, WorkerLostError } from '../errors.ts';
import type { ChosenVariant } from '../runtime/choose-variant.ts';
import type { Engine, Session } from '../runtime/engine.ts';
import { Leased } from '../runtime/lease.ts';
import { isFinite, type Tensor } from '../runtime/tensor.ts';
import { plainVariant, type ServedVariant } from '../runtime/variant.ts';
import type { Release } from '../trust/release.ts';
import { weightsByDeltas } from './by-deltas.ts';
import { contractIn, type Contract } from './contract.ts';
import { goldenFault, type Golden } from './golden.ts';
import { feedsFor, zerosFor } from './inputs.ts';

/** A release that is loaded, warmed up and ready to serve. */
export interface Staged {
  release: Release;
  contract: Contract;
  session: Leased<Session>;
  variant: ServedVariant;
}

/** Takes the form that a version is to serve in. */
export type TakeVariant = (release: Release, onnx: Uint8Array, contract: Contract) => Promise<ChosenVariant>;

/** The two blobs of a release, from the cache or else from the coordinator. */
export interface ReleaseBytes {
  graph: Uint8Array;
  weights: Uint8Array;
}

/**
 * The blobs of a release; weights of which an older version is here come as deltas where that is fewer bytes. `onProgress` hears how many of
 * the bytes that are not on disk have come, `onFault` why deltas were no use.
 */
export async function fetchRelease(
  release: Release,
  blobs: BlobCache,
  link: ModelLink | undefined,
  onProgress: (bytes: number, bytesTotal: number) => void = () => {},
  onFault: (error: Error) => void = () => {},
): Promise<ReleaseBytes> {
  const parts = [release.graph, release.weights];
  const cached = [await blobs.get(parts[0]!.digest), await blobs.get(parts[1]!.digest)];
  const missing = parts.filter((_, i) => cached[i] === undefined);
  const bytesTotal = missing.reduce((sum, { size }) => sum + Number(size), 0);
  let before = 0;
  const fetched = async ({ role, digest, size }: Artifact): Promise<Uint8Array> => {
    if (link === undefined)
      throw new TransportError('not-found', `the ${role} of version ${release.version} is not on disk any more`);
    const bytes = await link.download(digest, Number(size), (held) => onProgress(before + held, bytesTotal));
    before += bytes.length;
    await blobs.put(digest, bytes);
    return bytes;
  };
  // In turn: the graph is small and mostly there already.
  const graph = cached[0] ?? (await fetched(release.graph));
  return { graph, weights: cached[1] ?? (await byDeltas()) ?? (await fetched(release.weights)) };

  async function byDeltas(): Promise<Uint8Array | undefined> {
    if (link === undefined) return undefined;
    let held = 0;
    const weights = await weightsByDeltas(release.manifest, release.weights, {
      blobs,
      download: async ({ digest, size }, way) => {
        const delta = await link.download(digest, Number(size), (bytes) => onProgress(held + bytes, way.bytes));
        held += delta.length;
        return delta;
      },
      onFault,
    });
    if (weights !== undefined) await blobs.put(release.weights.digest, weights);
    return weights;
  }
}

/** Loads a release beside the one that serves, and runs it. Throws ModelError where it must not serve. */
export async function stage(
  release: Release,
  { graph, weights }: ReleaseBytes,
  engine: Engine,
  {
    golden,
    takeVariant = asPublished(engine),
  }: { golden?: Golden | undefined; takeVariant?: TakeVariant | undefined } = {},
): Promise<Staged> {
  const name = `version ${release.version} of '${release.model}'`;
  const contract = contractIn(release.manifest);
  let session: Session;
  let variant: ServedVariant;
  try {
    const published = joinModel(readModel(graph), weightsFromBytes(weights));
    const { onnx, ...chosen } = await takeVariant(release, published, contract);
    variant = chosen;
    session = await engine.load(onnx, chosen.engine);
  } catch (cause) {
    // No fault of the version: it may be tried again.
    if (cause instanceof WorkerLostError) throw cause;
    throw new ModelError(`${name} cannot be loaded: ${(cause as Error).message}`, { cause, fault: 'load' });
  }
  try {
    await warmUp(session, contract);
  } catch (cause) {
    await session.release();
    if (cause instanceof WorkerLostError) throw cause;
    throw new ModelError(`${name} failed its warm-up: ${(cause as Error).message}`, { cause, fault: 'warm_up' });
  }
  const fault = golden === undefined ? undefined : await answerFault(session, contract, golden);
  if (fault !== undefined) {
    await session.release();
    throw new ModelError(`${name} failed the golden check: ${fault}`, { fault: 'golden' });
  }
  return { release, contract, session: new Leased(session, (each) => each.release()), variant };
}

const asPublished =
  ({ name }: Engine): TakeVariant =>
  (_, onnx) =>
    Promise.resolve({ ...plainVariant(name), onnx });

async function warmUp(session: Session, { inputs, outputs: wanted }: Contract): Promise<void> {
  const outputs = await session.run(zerosFor(inputs));
  const broken = nonFinite(outputs);
  if (broken !== undefined) throw new Error(`output '${broken}' is not finite`);
  const missing = wanted.find((output) => !(output.name in outputs));
  if (missing !== undefined) throw new Error(`output '${missing.name}' is missing`);
}

async function answerFault(session: Session, { inputs }: Contract, golden: Golden): Promise<string | undefined> {
  try {
    return goldenFault(golden, await session.run(feedsFor(inputs, golden.inputs)));
  } catch (error) {
    return (error as Error).message;
  }
}

/** The name of an output that holds something that is no number. */
export const nonFinite = (outputs: Record<string, Tensor>): string | undefined =>
  Object.entries(outputs).find(([, { data }]) => !isFinite(data))?.[0];
