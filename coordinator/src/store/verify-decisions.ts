import { create, fromBinary } from '@bufbuild/protobuf';
import {
  CandidateState,
  ContributionListSchema,
  openCandidate,
  openReceipt,
  openResult,
  SignedCandidateSchema,
  SignedReceiptSchema,
  SignedResultSchema,
  type Candidate,
  type VerifyEd25519,
} from '@commonweight/proto';
import type { CandidateRecord, ResultRecord, StoreReads } from './store.ts';

/** What is looked at, and where what is wrong with it is told. */
export interface Decisions {
  store: StoreReads;
  publicKey: Uint8Array;
  verify: VerifyEd25519;
  damage(text: string): void;
  /** Looks at a blob by the digest and size that a signed record says, with what it is in words. */
  blob(what: string, digest: Uint8Array, size: number): Promise<void>;
}

/** Looks at what a model's gates decided on and at what was measured of it: signatures, weights that are kept, and the ends of updates. */
export async function verifyDecisions(model: string, of: Decisions): Promise<void> {
  for (const record of await of.store.candidates(model)) await verifyCandidate(record, of);
  for (const record of await of.store.results({ model })) await verifyResult(record, of);
}

async function verifyCandidate({ number, record, signature, isKept }: CandidateRecord, of: Decisions): Promise<void> {
  const { publicKey, verify, damage } = of;
  let candidate: Candidate;
  try {
    const signed = create(SignedCandidateSchema, { candidate: record, signature, publicKey });
    candidate = openCandidate(signed, publicKey, verify);
  } catch (error) {
    return damage(`candidate ${number}: ${(error as Error).message}`);
  }
  if (Number(candidate.number) !== number) damage(`candidate ${number} is kept under the number of another`);
  if (isKept) {
    for (const { role, digest, size } of candidate.artifacts)
      await of.blob(`candidate ${number}: its ${role}`, digest, Number(size));
  }
  if (candidate.state === CandidateState.REFUSED) await verifyRefused(candidate, of);
}

/** Each update of what a gate refused has ended, and is in no version. */
async function verifyRefused({ contributionsDigest, number }: Candidate, of: Decisions): Promise<void> {
  const { store, publicKey, verify, damage } = of;
  const size = await store.blobSize(contributionsDigest);
  await of.blob(`candidate ${number}: its list of contributions`, contributionsDigest, size ?? 0);
  if (size === undefined) return;
  const { accepted } = fromBinary(ContributionListSchema, await store.readBlob(contributionsDigest, 0, size));
  for (const { updateId } of accepted) {
    const id = Buffer.from(updateId).toString('hex');
    const record = await store.receipt(updateId);
    if (record === undefined) {
      damage(`candidate ${number}: update ${id} has no receipt`);
      continue;
    }
    const { receipt, signature } = record;
    try {
      const signed = create(SignedReceiptSchema, { receipt, signature, publicKey });
      const { outcome } = openReceipt(signed, publicKey, verify);
      if (outcome.case !== 'rejected') damage(`candidate ${number} was refused, and update ${id} says ${outcome.case}`);
    } catch (error) {
      damage(`candidate ${number}: update ${id}: ${(error as Error).message}`);
    }
  }
}

async function verifyResult({ task, round, record, signature }: ResultRecord, of: Decisions): Promise<void> {
  const { publicKey, verify, damage } = of;
  const name = `result of round ${round} of ${task}`;
  try {
    const signed = create(SignedResultSchema, { result: record, signature, publicKey });
    const { statisticsDigest, statisticsSize, ...result } = openResult(signed, publicKey, verify);
    if (result.task !== task || Number(result.round) !== round) damage(`${name} is kept in the place of another`);
    if (statisticsDigest.length > 0) await of.blob(`${name}: its statistics`, statisticsDigest, Number(statisticsSize));
  } catch (error) {
    damage(`${name}: ${(error as Error).message}`);
  }
}
