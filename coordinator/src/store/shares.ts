import type { ReceiptRecord, StoreError } from './store.ts';

/** An update, or an agent that delivers none. */
export interface Claim {
  agentId: string;
  /** Hexadecimal; empty where the agent delivers nothing in this round. */
  updateId: string;
  /** As it counts in the sum. */
  weight: number;
  metrics: Readonly<Record<string, number>>;
}

/** A claim as the rows have it. */
export interface ClaimRow extends Claim {
  /** Who has it in its part of the sum. */
  replica: string;
  /** The part with this update in it is in the rows: it outlives the replica. */
  isKept: boolean;
}

/** Which round of which task. */
export interface RoundKey {
  task: string;
  round: number;
}

/** An agent that is connected to a replica. */
export interface MemberRow {
  agentId: string;
  replica: string;
  /** The wire bytes of its Hello. */
  hello: Uint8Array;
  ready: boolean;
}

/**
 * What became of a claim: it is this replica's now; the update is in a part of the sum already; the agent's other update is; or the
 * round takes none any more.
 */
export type Claimed = 'claimed' | 'held' | 'taken' | 'closed';

/** What a refusal for good came to: it is durable; the update has ended already; it is in a part; or the round is another by now. */
export type Refused = 'refused' | ReceiptRecord | 'held' | 'moved';

/** What changed in the rows; `task` is empty where it is not one task's. */
export interface Change {
  kind: 'task' | 'claims' | 'closing' | 'kept' | 'fleet';
  task: string;
}

/**
 * What coordinators on one database say to each other: rows, and a hint that they changed. Each replica folds the updates that come to
 * it into a part of its own; a claim makes an update one replica's before anybody hears that it was taken, so it is in one part only.
 * Every method throws StoreError; of the kind `broken` where this replica was taken for dead, and then all that it has is void.
 */
export interface Shares {
  /** This process's name among the replicas; a new one with each start. */
  readonly replica: string;
  /** Resolves once another has taken this replica for dead. */
  readonly fenced: Promise<StoreError>;
  /** Hints are lost when a connection breaks: whoever listens also looks now and again. Gives what ends it. */
  onChange(listener: (change: Change) => void): () => void;

  /** Where this replica's gRPC is. */
  advertise(address: string): Promise<void>;
  /** Where the leader's gRPC is; undefined while nobody leads. */
  leaderAddress(): Promise<string | undefined>;
  /** Joins, leaves and readiness of this replica's agents; undefined is gone. */
  setMembers(members: ReadonlyMap<string, Omit<MemberRow, 'agentId' | 'replica'> | undefined>): Promise<void>;
  /** The agents of all other replicas that live. */
  members(): Promise<MemberRow[]>;

  /** Whether a round takes updates; undefined where the task has none. */
  round(task: string): Promise<{ round: number; isOpen: boolean } | undefined>;
  claims(key: RoundKey): Promise<ClaimRow[]>;
  /** Before an update counts as taken. A payload goes into the rows with it, and then the claim is kept from the start. */
  claim(key: RoundKey, claim: Claim, payload?: Uint8Array): Promise<Claimed>;
  /** The same for several, all of them or none: gives what keeps some from being claimed. */
  claimAll(key: RoundKey, claims: readonly Claim[]): Promise<'closed' | ReadonlyMap<string, 'held' | 'taken'>>;
  /** The agent delivers nothing in this round; a claim that is there stays. */
  giveUp(key: RoundKey, agentId: string): Promise<void>;
  /** Gives back the claims of this replica that are not in the rows: its part is gone. */
  disown(key: RoundKey): Promise<void>;
  /** Puts this replica's part into the rows, in place of what was there, with the updates that are in it. */
  keep(key: RoundKey, updateIds: readonly string[], sum: Uint8Array): Promise<void>;
  /** Refuses an update for good, as judged in this round of its task. */
  refuse(key: RoundKey, agentId: string, receipt: ReceiptRecord): Promise<Refused>;

  /** Of the leader: the round takes no more claims (or takes them again). */
  setOpen(key: RoundKey, isOpen: boolean): Promise<void>;
  /** Of the leader: takes silent replicas, and those named, for dead. Their unkept claims are gone. Gives who died. */
  fence(replicas?: readonly string[]): Promise<string[]>;
  /** Of the leader: the kept parts of the others. Throws StoreError naming one that is damaged. */
  parts(key: RoundKey): Promise<Uint8Array[]>;
  /** The kept part of this replica. */
  ownPart(key: RoundKey): Promise<Uint8Array>;
  /** The payload that came with a claim. */
  payload(key: RoundKey, updateId: string): Promise<Uint8Array>;
  /** Leaves: what is not kept is given back. */
  close(): Promise<void>;
}
