import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { weightsFromBytes, weightsToBytes, type Measured } from '@commonweight/core';
import {
  CandidateSchema,
  CandidateState,
  EvaluationSchema,
  SignedCandidateSchema,
  type Candidate,
  type Evaluation,
  type SignedCandidate,
} from '@commonweight/proto';
import type { Signer } from '../identity/signer.ts';
import type { BlobRecord, CandidateRecord } from '../store/store.ts';
import type { ArtifactRole } from './artifacts.ts';
import type { Rounding } from './delta-chain.ts';
import { artifactOf, blobOf, joined, parted, type OpenVersion, type RegistryReads } from './registry.ts';

/** A candidate that is ready to be worked with. */
export interface OpenCandidate {
  candidate: Candidate;
  signed: SignedCandidate;
  weights: Float32Array;
  memory: readonly Float32Array[];
  /** Where it is a step from the version that it is held against. */
  rounding: Rounding | undefined;
}

/** What a candidate is made from, besides the version that it is held against. */
export interface CandidateDraft {
  weights: Float32Array;
  memory: readonly Float32Array[];
  rounding: Rounding | undefined;
  candidate: Pick<
    Candidate,
    | 'task'
    | 'round'
    | 'strategy'
    | 'totalWeight'
    | 'contributionsDigest'
    | 'metrics'
    | 'createdMs'
    | 'stepNorm'
    | 'epoch'
    | 'number'
  >;
}

/** A candidate of a model, pending, and its blobs. */
export function candidateFrom(
  base: Pick<OpenVersion, 'manifest' | 'digest'>,
  { weights, memory, rounding, candidate }: CandidateDraft,
): { candidate: Candidate; blobs: BlobRecord[] } {
  const whole = weightsToBytes(weights);
  // What its version would not have is nothing to keep.
  const step = rounding?.step !== undefined && rounding.step.length < whole.length ? rounding.step : undefined;
  const parts: { role: ArtifactRole; blob: BlobRecord }[] = [
    { role: 'weights', blob: blobOf(whole) },
    ...(memory.length === 0 ? [] : [{ role: 'server-memory' as const, blob: blobOf(joined(memory)) }]),
    ...(step === undefined ? [] : [{ role: 'delta' as const, blob: blobOf(step) }]),
    ...(rounding === undefined
      ? []
      : [{ role: 'remainder' as const, blob: blobOf(weightsToBytes(rounding.remainder)) }]),
  ];
  return {
    blobs: parts.map(({ blob }) => blob),
    candidate: create(CandidateSchema, {
      ...candidate,
      model: base.manifest.model,
      baseVersion: base.manifest.version,
      baseDigest: base.digest,
      artifacts: parts.map(({ role, blob }) => artifactOf(role, blob)),
      state: CandidateState.PENDING,
    }),
  };
}

/** A candidate as the store keeps it, signed as it stands. */
export function candidateRecord(signer: Signer, candidate: Candidate): CandidateRecord {
  const record = toBinary(CandidateSchema, candidate);
  const { PENDING, PUBLISHED } = CandidateState;
  return {
    model: candidate.model,
    number: Number(candidate.number),
    record,
    signature: signer.sign('Candidate', record),
    isPending: candidate.state === PENDING,
    // What became a version is kept as that.
    isKept: candidate.state !== PUBLISHED,
  };
}

export const candidateToWire = (publicKey: Uint8Array, { record, signature }: CandidateRecord): SignedCandidate =>
  create(SignedCandidateSchema, { candidate: record, signature, publicKey });

/** Reads a candidate's weights, and what its strategy remembered. */
export async function openedCandidate(
  registry: RegistryReads,
  publicKey: Uint8Array,
  record: CandidateRecord,
): Promise<OpenCandidate> {
  const candidate = fromBinary(CandidateSchema, record.record);
  const blob = async (role: string): Promise<Uint8Array | undefined> => {
    const artifact = candidate.artifacts.find((one) => one.role === role);
    return artifact === undefined ? undefined : await registry.blob(artifact.digest);
  };
  const weights = weightsFromBytes((await blob('weights')) ?? new Uint8Array());
  const kept = await blob('server-memory');
  const step = await blob('delta');
  const remainder = await blob('remainder');
  return {
    candidate,
    signed: candidateToWire(publicKey, record),
    weights,
    memory: kept === undefined ? [] : parted(kept, weights.length),
    rounding: remainder === undefined ? undefined : { step, remainder: weightsFromBytes(remainder) },
  };
}

export const evaluationToWire = ({ examples, metrics }: Measured, reports: number): Evaluation =>
  create(EvaluationSchema, { reports, examples: BigInt(examples), metrics: metrics as Record<string, number> });
