import type { Asynchronous } from '@commonweight/core';
import { create } from '@bufbuild/protobuf';
import {
  equalBytes,
  formatToWire,
  headerDigest,
  SessionResponseSchema,
  updateId as updateIdOf,
  type OfferedUpdate,
  type SessionResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import type { Signer } from '../identity/signer.ts';
import { sha256 } from '../registry/registry.ts';
import { verdictOn, type OfferedUpdate as Judged, type RoundState, type Verdict } from '../round/round.ts';
import type { Call } from '../return-time.ts';
import { ServiceError } from '../service.ts';
import type { ReceiptRecord, StoreReads } from '../store/store.ts';
import { invitationToken } from './invitations.ts';
import type { Folding, Part, PartRefusals } from './parts.ts';
import { isFinal, receiptToWire, type Refusal } from './receipts.ts';
import type { Expected } from './round-work.ts';

/** What became of an update. */
export type Submission =
  | { accepted: true }
  | { ended: ReceiptRecord }
  /** With a receipt where it was refused for good. */
  | { refusal: Refusal; receipt?: ReceiptRecord };

/** What is said of an update that its agent still has. */
export type Offered = 'held' | 'wanted' | { ended: ReceiptRecord };

/** A task as the agents of one coordinator meet it, whoever leads it. What happens to a task happens one after the other. */
export interface TaskWork {
  readonly task: string;
  readonly isRunning: boolean;
  agentBack(agentId: string): Promise<void>;
  agentAway(agentId: string): Promise<void>;
  /** An agent is free: invites it again where its invitation got lost. */
  agentReady(agentId: string): Promise<void>;
  /** The agent's training failed: it delivers nothing more in this round. */
  agentOut(agentId: string, round: number): Promise<void>;
  /**
   * Answers an offer, in its turn: a round that is published meanwhile has ended the update then. What has no receipt and no round
   * to go into is refused for good.
   */
  offered(agentId: string, offered: OfferedUpdate): Promise<Offered>;
  /** What can be said of an update before its bytes are here. */
  refusalOfHeader(header: UpdateHeader): Refusal | undefined;
  /** Folds an update into the sum, or refuses it for good. */
  submit(header: UpdateHeader, payload: Uint8Array): Promise<Submission>;
  /** How the updates of a round are folded; undefined where it takes no parts, or is over. */
  folding(round: number): Folding | undefined;
  /** Adds the sum of several updates, all of it or nothing. Throws ServiceError where it is none. */
  submitPart(part: Part): Promise<PartRefusals>;
  /** Refuses an update whose bytes were not even asked for. */
  refuse(header: UpdateHeader, refusal: Refusal): Promise<Submission>;
  holds(updateId: Uint8Array): boolean;
  addBytes(direction: 'up' | 'down', bytes: number): void;
  /** When it may next want an agent that is free; undefined where it does not run, or never wants that one. */
  callFor(agentId: string): Call | undefined;
}

/** What an update's header is held against. */
interface Judge {
  state: RoundState;
  asynchronous: Asynchronous | undefined;
  signer: Signer;
  expected: Expected;
}

/** What a state of the round says of an update's header. */
export function refusalOf(header: UpdateHeader, { state, asynchronous, signer, expected }: Judge): Refusal | undefined {
  const verdict = verdictOn(state, updateOf(header), asynchronous);
  if (verdict !== 'accepted') return verdict;
  if (asynchronous !== undefined && !equalBytes(header.invitation, invitationToken(signer, header)))
    return 'not-invited';
  return refusalOfFields(header, expected);
}

/** What the fields of a header say, whatever the round. */
export function refusalOfFields(header: UpdateHeader, expected: Expected): Refusal | undefined {
  const { format, bytesMin, bytesMax } = expected;
  if (header.encoding !== formatToWire(format).encoding) return 'wrong-encoding';
  const isCompressed = header.rawSize > 0n;
  if (isCompressed && format.compression === undefined) return 'wrong-encoding';
  // What would be larger compressed is not compressed: an upload takes no more memory than its values do.
  if (isCompressed && header.payloadSize >= header.rawSize) return 'wrong-size';
  const bytes = Number(isCompressed ? header.rawSize : header.payloadSize);
  if (bytes < bytesMin || bytes > bytesMax) return 'wrong-size';
  const weight = Number(header.weight);
  return weight >= 1 && weight <= expected.weightMax ? undefined : 'weight-out-of-range';
}

/** The end of an update that comes again: without rounds, nothing else tells one that is in the last version from one for the next. */
export async function endedBefore(
  store: Pick<StoreReads, 'receipt'>,
  { updateId }: UpdateHeader,
  asynchronous: Asynchronous | undefined,
): Promise<ReceiptRecord | undefined> {
  return asynchronous === undefined ? undefined : await store.receipt(updateId);
}

/**
 * A refusal in its turn. Throws ServiceError where it was judged before, and would not be refused for good any more: the agent sends it
 * again then.
 */
export function stillRefused(task: TaskWork, header: UpdateHeader, refusal: Refusal): Refusal {
  if (!isFinal(refusal) || task.refusalOfHeader(header) !== undefined) return refusal;
  throw new ServiceError('unavailable', 'the task has moved on meanwhile: send the update again');
}

export const refusalOfBytes = (header: UpdateHeader, payload: Uint8Array): Refusal | undefined =>
  equalBytes(sha256(payload), header.payloadDigest) ? undefined : 'digest-mismatch';

/** Whether an agent may speak for an id: it is the hash of who, what and on which base. */
export function ownsId(agentId: string, update: OfferedUpdate | UpdateHeader): boolean {
  const { task, payloadDigest } = update;
  const identity = {
    agentId,
    task,
    round: Number(update.round),
    baseVersion: Number(update.baseVersion),
    payloadDigest,
  };
  return equalBytes(updateIdOf(identity, sha256), update.updateId);
}

/** Whether all of a header came as it was sent, where its agent gave the digest. */
export const isWhole = (header: UpdateHeader): boolean =>
  header.headerDigest.length === 0 || equalBytes(headerDigest(header, sha256), header.headerDigest);

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const fromHex = (id: string): Uint8Array => Buffer.from(id, 'hex');

/** An update as the round machine knows it. */
export const updateOf = ({ agentId, updateId, round, baseVersion }: UpdateHeader): Judged => ({
  agentId,
  updateId: hex(updateId),
  round: Number(round),
  baseVersion: Number(baseVersion),
});

/** Why an update that is offered is not wanted any more. */
export const refusalOfOffer = (verdict: Verdict): 'round-full' | 'stale-round' =>
  verdict === 'round-full' ? verdict : 'stale-round';

/** Tells an agent that what it trains for is over. */
export const roundOver = (task: string, round: number): SessionResponse =>
  create(SessionResponseSchema, { message: { case: 'roundOver', value: { task, round: BigInt(round) } } });

export const receiptMessage = (signer: Signer, record: ReceiptRecord): SessionResponse =>
  create(SessionResponseSchema, { message: { case: 'receipt', value: receiptToWire(signer, record) } });
