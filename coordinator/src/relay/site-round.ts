import { toBinary } from '@bufbuild/protobuf';
import { ConfigError, invariant } from '@commonweight/core';
import {
  PART_HEADER_BYTES_MAX,
  PART_UPDATES_MAX,
  UpdateHeaderSchema,
  type SignedReceipt,
  type SubmitPartResponse,
  type SubmitUpdateResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import type { RoundSum } from '../driver/round-sum.ts';
import { hex } from '../driver/task-work.ts';
import { ServiceError } from '../service.ts';
import type { RelayFigures } from './figures.ts';
import { packedPart } from './packed-part.ts';
import { foldingRules, type FoldingRules } from './rules.ts';
import type { UpdateSpool } from './spool.ts';
import type { Upward } from './uplink.ts';

/** An update that was taken here and has not ended. */
interface Kept {
  header: UpdateHeader;
  /**
   * `waiting` is to go up; `folded` is in the sum that goes up next; `going` is on its way; `taken` is the coordinator's; of one that is
   * `unknown`, from before a restart or a broken uplink, the coordinator is asked.
   */
  is: 'waiting' | 'folded' | 'going' | 'taken' | 'unknown';
  /** No part can have it: it goes up by itself. */
  isSingle: boolean;
  /** It was `unknown` once: the coordinator is asked again before its bytes go up. */
  isOld: boolean;
}

/** What the rounds of a site work with. */
export interface SiteWorld {
  uplink: Upward;
  spool: UpdateSpool;
  figures: RelayFigures;
  /** How long the first update of a part waits for others. */
  waitMs: number;
  /** Never goes back. */
  nowMs(): number;
  isConnected(agentId: string): boolean;
  /** Tells an agent what became of its update. */
  ended(agentId: string, receipt: SignedReceipt): void;
  log(line: string): void;
}

/** No update is later at the coordinator than by this share of what was left of its round. */
const WAIT_SHARE = 0.25;
/** How long before the round may close a part is to be there. */
const EARLY_MS = 500;
/** How soon what went wrong is tried again. */
const RETRY_MS = 1_000;

/**
 * One round of a task as a site takes part in it: updates are on the disk before their agents hear that they were taken, are folded into
 * a sum, and go up together. What the coordinator does not want in a part is taken out of the sum again, exactly.
 */
export class SiteRound {
  readonly task: string;
  readonly round: number;
  readonly #world: SiteWorld;
  readonly #kept = new Map<string, Kept>();
  /** Agents that were invited through here and may still deliver. */
  readonly #invited = new Set<string>();
  /** Whether all of them are known: a relay that was restarted has not seen the invitations. */
  #knowsInvited = false;
  /** Null where its updates go up one by one; undefined while the coordinator has not said. */
  #rules: FoldingRules | null | undefined;
  /** Of what is `folded`. */
  #sum: RoundSum | undefined;
  #deadlineMs = Infinity;
  #dueMs = Infinity;
  /** After what went wrong. */
  #notBeforeMs = -Infinity;
  #queue: Promise<unknown> = Promise.resolve();
  #looking: Promise<void> | undefined;

  constructor(task: string, round: number, world: SiteWorld) {
    this.task = task;
    this.round = round;
    this.#world = world;
  }

  /** Updates that have not ended. */
  get size(): number {
    return this.#kept.size;
  }

  /** Goes on with an update from before a restart. */
  restore(header: UpdateHeader): void {
    this.#kept.set(hex(header.updateId), { header, is: 'unknown', isSingle: isLarge(header), isOld: true });
  }

  invited(agentId: string, deadlineInMs: number): void {
    this.#invited.add(agentId);
    this.#knowsInvited = true;
    const deadlineMs = this.#world.nowMs() + deadlineInMs;
    if (deadlineMs < this.#deadlineMs) this.#deadlineMs = deadlineMs;
    // Known before it is needed: the uplink may be away by then.
    if (this.#rules === undefined) this.#learn().catch(() => {});
  }

  /** The coordinator says that it is, and nobody here saw how. */
  foundInvited(agentId: string): void {
    this.#invited.add(agentId);
  }

  /** Whether the coordinator would look at the bytes of an update; undefined where this relay does not know. */
  expects(header: UpdateHeader): boolean | undefined {
    return this.#rules == null ? undefined : !this.#rules.refuses(header);
  }

  isInvited(agentId: string): boolean {
    return this.#invited.has(agentId);
  }

  /** The agent delivers nothing in this round. */
  out(agentId: string): void {
    this.#invited.delete(agentId);
  }

  /** Takes an update whose bytes are those of its header: undefined where the coordinator is to judge it. Throws ServiceError. */
  async take(header: UpdateHeader, payload: Uint8Array): Promise<'taken' | undefined> {
    const { spool, figures, uplink } = this.#world;
    // Without it the update is folded later.
    if (this.#rules === undefined && uplink.isUp) await this.#learn().catch(() => {});
    return this.#inTurn(async () => {
      const id = hex(header.updateId);
      if (this.#kept.has(id)) return 'taken';
      // A second update of one agent: only one counts.
      if ([...this.#kept.values()].some((kept) => kept.header.agentId === header.agentId)) return undefined;
      const kept: Kept = { header, is: 'waiting', isSingle: isLarge(header), isOld: false };
      if (this.#isFoldable(kept) && !(await this.#fold(kept, payload))) return undefined;
      try {
        spool.put(header, payload);
      } catch (error) {
        if (kept.is === 'folded') this.#sum?.takeOut(header, payload);
        throw error;
      }
      this.#kept.set(id, kept);
      figures.updates++;
      figures.bytesIn += payload.length;
      this.#wait();
      return 'taken';
    });
  }

  /** Whether the update is kept here; the coordinator asked for it, which forgot it perhaps. */
  wanted(updateId: Uint8Array): boolean {
    const kept = this.#kept.get(hex(updateId));
    if (kept?.is === 'taken') {
      kept.is = 'waiting';
      this.#dueMs = this.#world.nowMs();
    }
    return kept !== undefined;
  }

  has(updateId: Uint8Array): boolean {
    return this.#kept.has(hex(updateId));
  }

  /** Whether the coordinator has it, as far as is known here. */
  isAbove(updateId: Uint8Array): boolean {
    return this.#kept.get(hex(updateId))?.is === 'taken';
  }

  /** The update has ended; its agent hears it by its session. */
  forget(updateId: Uint8Array): void {
    const id = hex(updateId);
    const kept = this.#kept.get(id);
    if (kept === undefined) return;
    this.#kept.delete(id);
    if (kept.is === 'folded') {
      const payload = this.#world.spool.payload(kept.header);
      if (payload === undefined) this.#refold();
      else this.#sum?.takeOut(kept.header, payload);
    }
    this.#world.spool.remove(updateId);
  }

  /** The coordinator may have forgotten what it took. */
  doubt(of: (agentId: string) => boolean): void {
    const doubted = this.#all('taken').filter(({ header }) => of(header.agentId));
    for (const kept of doubted) kept.is = 'unknown';
    // Another coordinator perhaps, or the round is over by now.
    if (doubted.length > 0) this.#rules = undefined;
  }

  /** Sends what is due. Resolves when nothing is under way any more. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  async #look(): Promise<void> {
    const { nowMs, uplink } = this.#world;
    if (!uplink.isUp || this.#kept.size === 0 || nowMs() < this.#notBeforeMs) return;
    try {
      if (this.#all('unknown').length > 0) await this.#ask();
      if (this.#all('waiting', 'folded').length === 0) return;
      if (this.#rules === undefined) await this.#learn();
      if (this.#rules === null || this.#isComplete || nowMs() >= this.#dueMs) await this.#send();
    } catch (error) {
      this.#notBeforeMs = nowMs() + RETRY_MS;
      throw error;
    }
  }

  /** Sends all that is here, due or not. */
  async flush(): Promise<void> {
    await this.#looking?.catch(() => {});
    this.#dueMs = -Infinity;
    await this.look();
  }

  /** Nobody else of the site is waited for. */
  get #isComplete(): boolean {
    if (this.#all('waiting', 'folded').length >= PART_UPDATES_MAX) return true;
    // Without its agent the round may be closed, and it would come too late.
    if (this.#all('waiting', 'folded').some(({ header }) => !this.#world.isConnected(header.agentId))) return true;
    if (!this.#knowsInvited) return false;
    const delivered = new Set([...this.#kept.values()].map(({ header }) => header.agentId));
    return [...this.#invited].every((agentId) => delivered.has(agentId) || !this.#world.isConnected(agentId));
  }

  #all(...is: Kept['is'][]): Kept[] {
    return [...this.#kept.values()].filter((kept) => is.includes(kept.is));
  }

  /** What changes the sum happens one after the other, and never waits for the uplink. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => undefined);
    return result;
  }

  /** The first update of a part waits for others, and not so long that it would come too late. */
  #wait(): void {
    if (this.#dueMs !== Infinity) return;
    const nowMs = this.#world.nowMs();
    let dueMs = nowMs + Math.min(this.#world.waitMs, WAIT_SHARE * Math.max(0, this.#deadlineMs - nowMs));
    const { collectMinMs, collectMs = 0 } = this.#rules ?? {};
    if (collectMinMs !== undefined) {
      const closesMs = this.#deadlineMs - collectMs + collectMinMs - EARLY_MS;
      if (closesMs > nowMs) dueMs = Math.min(dueMs, closesMs);
    }
    this.#dueMs = dueMs;
  }

  /** How the round is folded, as the coordinator says. */
  async #learn(): Promise<void> {
    const { uplink, log } = this.#world;
    const folding = await uplink.folding(this.task, this.round);
    if (this.#rules !== undefined) return;
    try {
      this.#rules = (folding.folded ? foldingRules(this.task, folding) : undefined) ?? null;
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      log(`${this.task}: updates go on one by one, since this relay cannot fold them: ${error.message}`);
      this.#rules = null;
    }
    // What was folded by other rules is folded again.
    this.#refold();
  }

  #refold(): void {
    for (const kept of this.#all('folded')) kept.is = 'waiting';
    this.#sum = undefined;
  }

  #isFoldable({ isSingle }: Kept): boolean {
    return this.#rules !== undefined && this.#rules !== null && !isSingle;
  }

  /** Folds an update into the sum that goes up next, or says that it cannot be. */
  async #fold(kept: Kept, payload: Uint8Array): Promise<boolean> {
    const rules = this.#rules;
    invariant(rules !== undefined && rules !== null, 'what is folded is folded by rules');
    if (rules.refuses(kept.header)) return false;
    this.#sum ??= rules.newSum();
    const fault = await this.#sum.fold(kept.header, payload, { weight: rules.weigh(kept.header), metrics: {} });
    if (fault === undefined) kept.is = 'folded';
    return fault === undefined;
  }

  /** What became of updates that the coordinator may have forgotten: what it does not know goes up again. */
  async #ask(): Promise<void> {
    for (const kept of this.#all('unknown')) {
      const { accepted, receipt } = await this.#world.uplink.updateStatus(kept.header.updateId);
      kept.isOld = true;
      if (receipt !== undefined) this.#end(kept, receipt);
      else if (accepted) kept.is = 'taken';
      else kept.is = 'waiting';
    }
    this.#wait();
  }

  async #send(): Promise<void> {
    this.#dueMs = Infinity;
    try {
      let part = await this.#inTurn(() => this.#nextPart());
      // Where something of a part is refused, the rest is folded again.
      while (part !== undefined)
        part = (await this.#sendPart(part)) ? undefined : await this.#inTurn(() => this.#nextPart());
      for (const kept of this.#all('waiting')) if (!this.#isFoldable(kept)) await this.#sendSingle(kept);
    } finally {
      // Whether it came there nobody knows.
      for (const kept of this.#all('going')) kept.is = 'unknown';
      if (this.#all('waiting', 'folded', 'unknown').length > 0) this.#wait();
    }
  }

  /** What is folded now, with what waits to be. */
  async #nextPart(): Promise<NextPart | undefined> {
    for (const kept of this.#all('waiting')) {
      if (!this.#isFoldable(kept)) continue;
      if (this.#all('folded').length >= PART_UPDATES_MAX) break;
      const payload = this.#world.spool.payload(kept.header);
      if (payload === undefined) this.#lost(kept);
      else if (!(await this.#fold(kept, payload))) kept.isSingle = true;
    }
    const updates = this.#all('folded');
    const sum = this.#sum;
    this.#sum = undefined;
    if (updates.length === 0 || sum === undefined) return undefined;
    for (const kept of updates) kept.is = 'going';
    return { updates, sum };
  }

  /** Sends a sum, where that is less than what is in it. False where some of it is to go up again. */
  async #sendPart({ updates, sum }: NextPart): Promise<boolean> {
    const { uplink, figures, log } = this.#world;
    const headers = updates.map(({ header }) => header);
    const bytes = headers.reduce((total, { payloadSize }) => total + Number(payloadSize), 0);
    const part = await packedPart(headers, sum.toBytes());
    if (part.sum.length >= bytes) return alone(updates);
    let response: SubmitPartResponse;
    try {
      response = await uplink.submitPart(part);
    } catch (error) {
      if (!isFinal(error)) throw error;
      log(`${this.task}: round ${this.round}: ${error.message}; ${updates.length} updates go up one by one`);
      return alone(updates);
    }
    figures.bytesUp += part.sum.length;
    if (!response.accepted) {
      this.#withoutRefused(updates, response);
      return false;
    }
    for (const kept of updates) kept.is = 'taken';
    figures.parts++;
    figures.updatesInParts += updates.length;
    const size = `${kib(part.sum.length)} instead of ${kib(bytes)}`;
    log(`${this.task}: round ${this.round}: ${updates.length} updates went up as one part, ${size}`);
    return true;
  }

  /** All but those that were refused go up again. */
  #withoutRefused(part: readonly Kept[], { refused }: SubmitPartResponse): void {
    const answers = new Map(refused.map((one) => [hex(one.updateId), one]));
    for (const kept of part) {
      const answer = answers.get(hex(kept.header.updateId));
      if (answer === undefined) kept.is = 'waiting';
      else if (answer.receipt !== undefined) this.#end(kept, answer.receipt);
      else if (answer.held) kept.is = 'taken';
      else Object.assign(kept, { is: 'waiting', isSingle: true });
    }
    const named = part.some(({ header }) => answers.has(hex(header.updateId)));
    // Else the same part would be sent for ever.
    if (!named) for (const kept of part) kept.isSingle = true;
  }

  async #sendSingle(kept: Kept): Promise<void> {
    const { uplink, spool, figures } = this.#world;
    const payload = spool.payload(kept.header);
    if (payload === undefined) return this.#lost(kept);
    const isOld = kept.isOld;
    kept.is = 'going';
    let response: SubmitUpdateResponse | undefined;
    try {
      // Of what is refused the header is enough.
      if (isOld) response = await uplink.ask(kept.header);
      if (response?.accepted !== true && response?.receipt === undefined) {
        response = await uplink.submit(kept.header, payload);
        figures.bytesUp += payload.length;
        figures.single++;
      }
    } catch (error) {
      if (!isFinal(error)) throw error;
      return this.#lost(kept);
    }
    if (response.receipt !== undefined) this.#end(kept, response.receipt);
    else if (response.accepted) kept.is = 'taken';
    // Not those bytes that were signed for: its agent offers it again.
    else this.#lost(kept);
  }

  #end({ header }: Kept, receipt: SignedReceipt): void {
    this.#drop(header);
    this.#world.ended(header.agentId, receipt);
  }

  /** Its agent has it still, and hears of the coordinator what becomes of it. */
  #lost({ header }: Kept): void {
    this.#drop(header);
  }

  #drop({ updateId }: UpdateHeader): void {
    this.#kept.delete(hex(updateId));
    this.#world.spool.remove(updateId);
  }
}

/** Updates on their way, and their sum. */
interface NextPart {
  updates: readonly Kept[];
  sum: RoundSum;
}

/** They go up one by one. */
function alone(updates: readonly Kept[]): true {
  for (const kept of updates) Object.assign(kept, { is: 'waiting', isSingle: true });
  return true;
}

/** Whether the coordinator has said no, and will again. */
const isFinal = (error: unknown): error is ServiceError =>
  error instanceof ServiceError && error.code !== 'unavailable' && error.code !== 'resource-exhausted';

const isLarge = (header: UpdateHeader): boolean => toBinary(UpdateHeaderSchema, header).length > PART_HEADER_BYTES_MAX;

const kib = (bytes: number): string => `${(bytes / 1024).toFixed(1)} KiB`;
