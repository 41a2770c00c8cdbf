import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Reason, ReceiptSchema, SignedReceiptSchema, type Receipt, type SignedReceipt } from '@commonweight/proto';
import type { UpdateFault } from '@commonweight/core';
import type { Signer } from '../identity/signer.ts';
import type { Verdict } from '../round/round.ts';
import type { ReceiptRecord } from '../store/store.ts';

/** Every way to be refused for good, in words as metrics and the live view have them. */
export type FinalRefusal =
  Exclude<Verdict, 'accepted' | 'duplicate'> | UpdateFault | 'wrong-encoding' | 'unknown-task' | 'gate';

/**
 * Every way to be refused. A duplicate is not ended: the first delivery counts. Neither are damaged bytes: the agent sends them again. Nor
 * is an id that its sender cannot have: it may be somebody else's, or the header was damaged on its way.
 */
export type Refusal = FinalRefusal | 'duplicate' | 'digest-mismatch' | 'wrong-id';

const REASONS: Record<FinalRefusal, Reason> = {
  'stale-round': Reason.STALE_ROUND,
  'round-full': Reason.ROUND_FULL,
  'not-invited': Reason.NOT_INVITED,
  'not-collecting': Reason.NOT_COLLECTING,
  'wrong-base-version': Reason.WRONG_BASE_VERSION,
  'wrong-size': Reason.WRONG_SIZE,
  'not-finite': Reason.NOT_FINITE,
  'value-too-large': Reason.VALUE_TOO_LARGE,
  'off-grid': Reason.OFF_GRID,
  'weight-out-of-range': Reason.WEIGHT_OUT_OF_RANGE,
  'wrong-encoding': Reason.WRONG_ENCODING,
  'unknown-task': Reason.UNKNOWN_TASK,
  gate: Reason.GATE,
};

/** Whether a refusal ends the update. */
export const isFinal = (refusal: Refusal): refusal is FinalRefusal => Object.hasOwn(REASONS, refusal);

/** The update that a receipt ends. */
export interface ReceiptSubject {
  updateId: Uint8Array;
  task: string;
  round: number;
}

export function committedReceipt(signer: Signer, update: ReceiptSubject, version: number): ReceiptRecord {
  return signed(signer, update, { case: 'committedVersion', value: BigInt(version) });
}

/** Of a report: the result of its round counts it. */
export const countedReceipt = (signer: Signer, report: ReceiptSubject): ReceiptRecord =>
  signed(signer, report, { case: 'countedRound', value: BigInt(report.round) });

export function rejectedReceipt(signer: Signer, update: ReceiptSubject, refusal: FinalRefusal): ReceiptRecord {
  return signed(signer, update, { case: 'rejected', value: REASONS[refusal] });
}

function signed(signer: Signer, { updateId, task, round }: ReceiptSubject, outcome: Receipt['outcome']): ReceiptRecord {
  const receipt = toBinary(ReceiptSchema, create(ReceiptSchema, { updateId, task, round: BigInt(round), outcome }));
  return { updateId, receipt, signature: signer.sign('Receipt', receipt) };
}

export const receiptToWire = (signer: Signer, { receipt, signature }: ReceiptRecord): SignedReceipt =>
  create(SignedReceiptSchema, { receipt, signature, publicKey: signer.publicKey });

/** Whether a stored receipt says that the update is in a version, or in the result of its round. */
export const isCounted = ({ receipt }: ReceiptRecord): boolean =>
  fromBinary(ReceiptSchema, receipt).outcome.case !== 'rejected';
