import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Reason, ReceiptSchema, SignedReceiptSchema, type Receipt, type SignedReceipt } from '@commonweight/proto';
import type { UpdateFault } from '@commonweight/core';
import type { Signer } from '../identity/signer.ts';
import type { Verdict } from '../round/round.ts';
import type { ReceiptRecord } from '../store/store.ts';

/** Every way to be refused, in words as metrics and the live view have them. */
export type Refusal =
  Exclude<Verdict, 'accepted'> | UpdateFault | 'wrong-encoding' | 'digest-mismatch' | 'wrong-id' | 'unknown-task';

const REASONS: Record<Refusal, Reason> = {
  duplicate: Reason.DUPLICATE,
  'stale-round': Reason.STALE_ROUND,
  'not-invited': Reason.NOT_INVITED,
  'not-collecting': Reason.NOT_COLLECTING,
  'wrong-base-version': Reason.WRONG_BASE_VERSION,
  'wrong-size': Reason.WRONG_SIZE,
  'not-finite': Reason.NOT_FINITE,
  'value-too-large': Reason.VALUE_TOO_LARGE,
  'off-grid': Reason.OFF_GRID,
  'weight-out-of-range': Reason.WEIGHT_OUT_OF_RANGE,
  'wrong-encoding': Reason.WRONG_ENCODING,
  'digest-mismatch': Reason.DIGEST_MISMATCH,
  'wrong-id': Reason.WRONG_ID,
  'unknown-task': Reason.UNKNOWN_TASK,
};

export const reasonOf = (refusal: Refusal): Reason => REASONS[refusal];

/** The update that a receipt ends. */
export interface ReceiptSubject {
  updateId: Uint8Array;
  task: string;
  round: number;
}

export function committedReceipt(signer: Signer, update: ReceiptSubject, version: number): ReceiptRecord {
  return signed(signer, update, { case: 'committedVersion', value: BigInt(version) });
}

export function rejectedReceipt(signer: Signer, update: ReceiptSubject, refusal: Refusal): ReceiptRecord {
  return signed(signer, update, { case: 'rejected', value: reasonOf(refusal) });
}

function signed(signer: Signer, { updateId, task, round }: ReceiptSubject, outcome: Receipt['outcome']): ReceiptRecord {
  const receipt = toBinary(ReceiptSchema, create(ReceiptSchema, { updateId, task, round: BigInt(round), outcome }));
  return { updateId, receipt, signature: signer.sign('Receipt', receipt) };
}

export const receiptToWire = (signer: Signer, { receipt, signature }: ReceiptRecord): SignedReceipt =>
  create(SignedReceiptSchema, { receipt, signature, publicKey: signer.publicKey });

/** Whether a stored receipt says that the update is in a version. */
export const isCommitted = ({ receipt }: ReceiptRecord): boolean =>
  fromBinary(ReceiptSchema, receipt).outcome.case === 'committedVersion';
