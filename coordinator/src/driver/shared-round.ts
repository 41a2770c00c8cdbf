import { invariant } from '@commonweight/core';
import type { UpdateHeader } from '@commonweight/proto';
import { ServiceError } from '../service.ts';
import type { Claim, ClaimRow, RoundKey, Shares } from '../store/shares.ts';
import type { ReceiptRecord } from '../store/store.ts';
import type { Refusal } from './receipts.ts';
import type { Counted, FoldedSum } from './round-sum.ts';
import { updateOf } from './task-work.ts';

/** How long the parts of living replicas are waited for when a round closes; who takes longer is taken for dead. */
const PARTS_MS = 10_000;
const LOOK_MS = 50;

/** An update in some part of the round's sum. */
export type Taken = Counted & { agentId: string };

/**
 * What one coordinator tells the others of its part of a round, and what the leader reads of theirs. Each method is called in the
 * task's turn.
 */
export class SharedRound {
  readonly #shares: Shares;
  readonly #sumOf: () => FoldedSum;
  readonly #time: { monotonicMs(): number; sleep(ms: number): Promise<void> };
  #others = new Map<string, Taken>();
  /** What `read` gave before. */
  #told = new Set<string>();
  #out = new Set<string>();
  /** Updates of the part as the rows have it. */
  #kept = 0;

  constructor(
    shares: Shares,
    sumOf: () => FoldedSum,
    time: { monotonicMs(): number; sleep(ms: number): Promise<void> },
  ) {
    this.#shares = shares;
    this.#sumOf = sumOf;
    this.#time = time;
  }

  /** Of the round that is open. */
  get #sum(): FoldedSum {
    return this.#sumOf();
  }

  /** What others have, by update id in hexadecimal. */
  get others(): ReadonlyMap<string, Taken> {
    return this.#others;
  }

  reset(): void {
    this.#others = new Map();
    this.#told = new Set();
    this.#out = new Set();
    this.#kept = 0;
  }

  /** Goes on from what the rows have of this coordinator's part; the leader opens the round again. */
  async resume(key: RoundKey, isCollecting: boolean): Promise<void> {
    await this.#shares.disown(key);
    const rows = await this.#shares.claims(key);
    const own = rows.filter(({ replica, isKept }) => replica === this.#shares.replica && isKept);
    if (isCollecting && !this.#sum.seesEach && own.some(isUpdate)) {
      this.#sum.resume(await this.#shares.ownPart(key), byId(own));
      this.#kept = this.#sum.counted.size;
    }
    await this.#shares.setOpen(key, isCollecting);
  }

  /**
   * Makes an update that was just folded this coordinator's; where it cannot be, it is taken out again. Throws ServiceError where the
   * round takes none any more: what becomes of the update is then said when it is offered again.
   */
  async claim(key: RoundKey, header: UpdateHeader, payload: Uint8Array): Promise<Refusal | undefined> {
    const { agentId, updateId } = updateOf(header);
    const counted = this.#sum.counted.get(updateId);
    invariant(counted !== undefined, 'what is claimed was folded');
    const claim: Claim = { agentId, updateId, ...counted };
    const row = this.#sum.seesEach ? this.#sum.toRow(header, payload) : undefined;
    const claimed = await this.#shares.claim(key, claim, row);
    if (claimed === 'claimed') return undefined;
    this.#sum.takeOut(header, payload);
    if (claimed === 'closed') throw movedOn();
    return claimed === 'held' ? 'duplicate' : 'not-collecting';
  }

  /**
   * Makes all updates of a part this coordinator's, or none where some cannot be: those it gives. Throws ServiceError where the round takes
   * none any more.
   */
  async claimAll(key: RoundKey, updates: ReadonlyMap<string, Taken>): Promise<ReadonlyMap<string, Refusal>> {
    const claims = [...updates].map(([updateId, taken]) => ({ updateId, ...taken }));
    const claimed = await this.#shares.claimAll(key, claims);
    if (claimed === 'closed') throw movedOn();
    return new Map([...claimed].map(([id, why]) => [id, why === 'held' ? 'duplicate' : 'not-collecting'] as const));
  }

  /** What is in the parts of this and all other replicas since it was last read, and what is not any more. */
  async read(
    key: RoundKey,
  ): Promise<{ came: readonly (Taken & { updateId: string })[]; went: string[]; out: string[] }> {
    const rows = await this.#shares.claims(key);
    const all = byId(rows);
    const went = [...this.#told].filter((id) => !all.has(id));
    const came = [...all].flatMap(([updateId, taken]) => (this.#told.has(updateId) ? [] : [{ ...taken, updateId }]));
    const out = rows
      .filter((row) => !isUpdate(row))
      .flatMap(({ agentId }) => (this.#out.has(agentId) ? [] : [agentId]));
    this.#others = new Map([...all].filter(([id]) => !this.#sum.counted.has(id)));
    this.#told = new Set(all.keys());
    for (const agentId of out) this.#out.add(agentId);
    return { came, went, out };
  }

  /** Puts the part into the rows, where it has something new. */
  async checkpoint(key: RoundKey): Promise<void> {
    const { counted } = this.#sum;
    // Where each payload is in the rows, so is the part.
    if (this.#sum.seesEach || counted.size === this.#kept) return;
    const { size } = counted;
    await this.#shares.keep(key, [...counted.keys()], this.#sum.toBytes());
    this.#kept = size;
  }

  /** Throws ServiceError where the task is in another round than the one that was judged. */
  async refuse(
    key: RoundKey,
    agentId: string,
    receipt: ReceiptRecord,
  ): Promise<'refused' | 'held' | { ended: ReceiptRecord }> {
    const refused = await this.#shares.refuse(key, agentId, receipt);
    if (refused === 'moved') throw movedOn();
    return typeof refused === 'string' ? refused : { ended: refused };
  }

  /**
   * Closes the round for everybody, waits for the parts of all who live and adds them to the sum. Gives all updates that are in it;
   * where they are not enough, the sum is as it was and the round is open again.
   */
  async collect(
    key: RoundKey,
    isEnough: (all: ReadonlyMap<string, Taken>) => boolean,
  ): Promise<ReadonlyMap<string, Taken>> {
    await this.#shares.setOpen(key, false);
    const all = byId(await this.#whole(key));
    this.#others = new Map([...all].filter(([id]) => !this.#sum.counted.has(id)));
    if (!isEnough(all)) {
      await this.#shares.setOpen(key, true);
      return all;
    }
    try {
      await this.#addOthers(key);
    } finally {
      // What was read bit by bit is of one round as long as nobody else leads.
      await this.#shares.setOpen(key, false);
    }
    return all;
  }

  async #addOthers(key: RoundKey): Promise<void> {
    if (this.#sum.seesEach) {
      for (const [id, { weight, metrics }] of this.#others) {
        await this.#sum.foldRow(id, await this.#shares.payload(key, id), { weight, metrics });
      }
    } else {
      for (const part of await this.#shares.parts(key)) this.#sum.add(part);
    }
  }

  /** The claims once each is in a part that can be read. */
  async #whole(key: RoundKey): Promise<ClaimRow[]> {
    const endMs = this.#time.monotonicMs() + PARTS_MS;
    for (;;) {
      const rows = await this.#shares.claims(key);
      const missing = rows.filter((row) => isUpdate(row) && !row.isKept && !this.#sum.counted.has(row.updateId));
      if (missing.length === 0) return rows;
      const isOwn = missing.some(({ replica }) => replica === this.#shares.replica);
      invariant(!isOwn, 'what this coordinator claimed is in its part');
      const isLate = this.#time.monotonicMs() >= endMs;
      const died = await this.#shares.fence(isLate ? missing.map(({ replica }) => replica) : []);
      if (died.length === 0) await this.#time.sleep(LOOK_MS);
    }
  }
}

const movedOn = (): ServiceError =>
  new ServiceError('unavailable', 'the round is being closed: offer the update again');

const isUpdate = ({ updateId }: ClaimRow): boolean => updateId !== '';

const byId = (rows: readonly ClaimRow[]): Map<string, Taken> =>
  new Map(
    rows.filter(isUpdate).map(({ updateId, agentId, weight, metrics }) => [updateId, { agentId, weight, metrics }]),
  );
