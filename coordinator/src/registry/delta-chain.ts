import { weightsToBytes } from '@commonweight/core';
import type { Artifact, Manifest } from '@commonweight/proto';
import type { BlobRecord } from '../store/store.ts';
import { artifact, artifactOf, blobOf } from './artifacts.ts';

/** A version as the step from its parent. */
export interface Rounding {
  /** Undefined where it was not kept, for it is no smaller than the weights. */
  step: Uint8Array | undefined;
  /** What rounding left. */
  remainder: Float32Array;
}

/** Deltas of versions before that a manifest lists. */
const EARLIER_MAX = 15;

/** How a version travels: what its manifest says of deltas, and what is stored for that. */
export interface Travelling {
  delta: { artifact: Artifact; blob: BlobRecord } | undefined;
  earlierDeltas: Artifact[];
  remainder: BlobRecord | undefined;
}

/** A delta that is not smaller than the weights is left out, and with it those before: nobody would take that way. */
export function travelling(parent: Manifest, weights: BlobRecord, rounding: Rounding | undefined): Travelling {
  if (rounding === undefined) return { delta: undefined, earlierDeltas: [], remainder: undefined };
  const remainder = blobOf(weightsToBytes(rounding.remainder));
  const bytesMax = weights.data.length;
  const { step } = rounding;
  if (step === undefined || step.length >= bytesMax) return { delta: undefined, earlierDeltas: [], remainder };
  const blob = blobOf(step);
  const fromDigest = artifact(parent, 'weights').digest;
  const delta = { artifact: { ...artifactOf('delta', blob), fromDigest, toDigest: weights.digest }, blob };
  const own = parent.artifacts.filter(({ role }) => role === 'delta');
  let bytes = blob.data.length;
  const earlierDeltas = [];
  for (const earlier of [...own, ...parent.earlierDeltas].slice(0, EARLIER_MAX)) {
    bytes += Number(earlier.size);
    if (bytes >= bytesMax) break;
    earlierDeltas.push(earlier);
  }
  return { delta, earlierDeltas, remainder };
}
