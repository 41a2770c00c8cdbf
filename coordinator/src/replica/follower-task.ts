import type { OfferedUpdate, SignedCandidate, UpdateHeader } from '@commonweight/proto';
import { properMetrics, type Counters } from '../driver/counters.ts';
import type { Fleet } from '../driver/fleet.ts';
import { Invitations } from '../driver/invitations.ts';
import { takePart, type Folding, type Part, type PartRefusals } from '../driver/parts.ts';
import { isFinal, rejectedReceipt, type Refusal } from '../driver/receipts.ts';
import type { FoldedSum } from '../driver/round-sum.ts';
import { RoundWork } from '../driver/round-work.ts';
import { SharedRound } from '../driver/shared-round.ts';
import { teacherOf } from '../driver/teacher.ts';
import {
  endedBefore,
  fromHex,
  hex,
  receiptMessage,
  refusalOf,
  refusalOfBytes,
  refusalOfOffer,
  roundOver,
  stillRefused,
  updateOf,
  type Offered,
  type Submission,
  type TaskWork,
} from '../driver/task-work.ts';
import type { Signer } from '../identity/signer.ts';
import { candidateToWire } from '../registry/candidates.ts';
import type { OpenVersion, RegistryReads } from '../registry/registry.ts';
import type { Call } from '../return-time.ts';
import { callOf, openedMs } from '../round/call.ts';
import { parseConfig, type AnyConfig } from '../round/config.ts';
import {
  awaited,
  awaits,
  policyNow,
  verdictOn,
  withOut,
  type AcceptedUpdate,
  type Collecting,
  type RoundState,
} from '../round/round.ts';
import { ServiceError } from '../service.ts';
import type { RoundKey, Shares } from '../store/shares.ts';
import type { ReceiptRecord, StoreReads, TaskRecord } from '../store/store.ts';

/** What a follower's tasks work with. */
export interface FollowerWorld {
  store: StoreReads;
  shares: Shares;
  registry: RegistryReads;
  signer: Signer;
  fleet: Fleet;
  /** Folder for what robust rules read. */
  spoolDir: string;
  /** The time that this replica's sessions go by. */
  nowMs(): number;
  monotonicMs(): number;
  sleep(ms: number): Promise<void>;
  /** What this replica has is not what the rows say any more: the process is to end. */
  failed(error: Error): void;
}

/**
 * A task that another coordinator leads: invites this one's agents to the rounds that the leader opens, folds their updates into a
 * part of the sum, and tells them what became of them.
 */
export class FollowerTask implements TaskWork {
  readonly task: string;
  readonly #work: RoundWork;
  readonly #world: FollowerWorld;
  readonly #shared: SharedRound;
  readonly #invitations: Invitations;
  #record: TaskRecord;
  /** How long rounds take, as the leader found. */
  #roundMs: number | undefined;
  /** As the leader made it durable, with what this replica took. */
  #state: RoundState;
  #base: OpenVersion;
  /** What agents are to evaluate, while it is not decided. */
  #candidate: SignedCandidate | undefined;
  /** What the leader's time was, by its state, and the time here when that was seen. */
  #ofLeader: { ms: number; seenMs: number } | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  private constructor(world: FollowerWorld, record: TaskRecord, work: RoundWork, base: OpenVersion) {
    this.#world = world;
    this.task = record.task;
    this.#work = work;
    this.#shared = new SharedRound(world.shares, () => this.#sum, world);
    this.#invitations = new Invitations(this.task, work, world.signer);
    this.#base = base;
    this.#record = record;
    this.#roundMs = roundMsOf(record);
    this.#state = emptied(record);
  }

  static async open(world: FollowerWorld, record: TaskRecord): Promise<FollowerTask> {
    const config = parseConfig(record.configJson);
    const { registry, spoolDir } = world;
    const base = await registry.open(config.model, baseOf(config, emptied(record)));
    const graph = await registry.graph(base.manifest);
    const teacher = await teacherOf(registry, config);
    const work = new RoundWork(record.task, config, { graph, parameters: base.weights.length, spoolDir, teacher });
    const task = new FollowerTask(world, record, work, base);
    task.#takeOver(task.#state);
    await task.#begin();
    return task;
  }

  get #sum(): FoldedSum {
    return this.#work.sumOf(this.#state);
  }

  get isRunning(): boolean {
    return this.#record.state === 'running';
  }

  callFor(agentId: string): Call | undefined {
    const { judging, wanting } = this.#work;
    const { fleet } = this.#world;
    const isWanted = fleet.qualifies(agentId, wanting) || (judging !== undefined && fleet.qualifies(agentId, judging));
    if (!this.isRunning || !isWanted) return undefined;
    return callOf(this.#state, policyNow(this.#state, this.#work.policy), {
      agentId,
      nowMs: this.#leadersMs(),
      roundMs: this.#roundMs,
    });
  }

  /** Takes over what the leader made durable. */
  follow(record: TaskRecord): Promise<void> {
    return this.#enqueue(() => this.#follow(record));
  }

  /** Puts this replica's part into the rows, where it has something new. */
  checkpoint(): Promise<void> {
    return this.#enqueue(() => this.#shared.checkpoint(this.#key));
  }

  /** A session alone changes nothing: the leader reads from the rows who is connected. */
  async agentBack(): Promise<void> {}

  async agentAway(): Promise<void> {}

  agentReady(agentId: string): Promise<void> {
    return this.#enqueue(async () => {
      if (!awaits(this.#state, agentId)) return;
      // It may have delivered to another replica.
      const rows = await this.#world.shares.claims(this.#key);
      if (rows.some((row) => row.agentId === agentId && row.updateId !== '')) return;
      this.#invite([agentId]);
    });
  }

  agentOut(agentId: string, round: number): Promise<void> {
    return this.#enqueue(async () => {
      if (round === this.#state.round) await this.#giveUp(agentId);
    });
  }

  offered(agentId: string, offered: OfferedUpdate): Promise<Offered> {
    return this.#enqueue(async () => {
      const { updateId } = offered;
      if (this.holds(updateId)) {
        // Who waits for a verdict on it is free meanwhile, also where a restart forgot that.
        if (this.#state.candidate !== undefined) this.#world.fleet.setReady(agentId, true, this.#world.nowMs());
        return 'held';
      }
      const known = await this.#world.store.receipt(updateId);
      if (known !== undefined) return { ended: known };
      const round = Number(offered.round);
      const update = { agentId, updateId: hex(updateId), round, baseVersion: Number(offered.baseVersion) };
      const verdict = verdictOn(this.#state, update, this.#work.asynchronous);
      if (verdict === 'accepted') return 'wanted';
      const receipt = rejectedReceipt(
        this.#world.signer,
        { updateId, task: this.task, round },
        refusalOfOffer(verdict),
      );
      const ended = await this.#end(agentId, receipt);
      return ended === 'refused' ? { ended: receipt } : ended;
    });
  }

  refusalOfHeader(header: UpdateHeader): Refusal | undefined {
    const { asynchronous } = this.#work;
    const { signer } = this.#world;
    return refusalOf(header, {
      state: this.#state,
      asynchronous,
      signer,
      expected: this.#work.expectedOf(this.#state),
    });
  }

  submit(header: UpdateHeader, payload: Uint8Array): Promise<Submission> {
    return this.#enqueue(async () => {
      const ended = await endedBefore(this.#world.store, header, this.#work.asynchronous);
      if (ended !== undefined) return { ended };
      const refusal =
        this.refusalOfHeader(header) ?? refusalOfBytes(header, payload) ?? (await this.#fold(header, payload));
      if (refusal !== undefined) return this.#refuse(header, refusal);
      this.#take(updateOf(header));
      this.#world.fleet.setReady(header.agentId, true, this.#world.nowMs());
      return { accepted: true };
    });
  }

  folding(round: number): Folding | undefined {
    const state = this.#state;
    if (round !== state.round || this.#work.partsGridOf(state) === undefined) return undefined;
    const { configJson } = this.#record;
    return { configJson, baseVersion: state.version, parameters: this.#base.weights.length };
  }

  submitPart(part: Part): Promise<PartRefusals> {
    return this.#enqueue(async () => {
      const refusals = await takePart(part, {
        key: this.#key,
        version: this.#state.version,
        sum: this.#sum,
        grid: this.#work.partsGridOf(this.#state),
        shared: this.#shared,
        ended: (updateId) => this.#world.store.receipt(updateId),
        refusalOf: (header) => this.refusalOfHeader(header),
        refuse: (header, refusal) => this.#refuse(header, refusal),
      });
      if (refusals.size > 0) return refusals;
      for (const update of part.updates.map(updateOf)) {
        this.#take(update);
        this.#world.fleet.setReady(update.agentId, true, this.#world.nowMs());
      }
      return refusals;
    });
  }

  refuse(header: UpdateHeader, refusal: Refusal): Promise<Submission> {
    return this.#enqueue(() => this.#refuse(header, stillRefused(this, header, refusal)));
  }

  holds(updateId: Uint8Array): boolean {
    const id = hex(updateId);
    return this.#sum.counted.has(id) || this.#state.candidate?.updates.some((one) => one.updateId === id) === true;
  }

  /** The leader counts what goes over its own links. */
  addBytes(): void {}

  /** Ends what is under way; what was taken is in the rows, and nothing more is taken. */
  async close(): Promise<void> {
    const kept = this.checkpoint();
    this.#isClosed = true;
    await kept;
    await this.#work.close();
  }

  get #key(): RoundKey {
    return { task: this.task, round: this.#state.round };
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isClosed) return Promise.reject(new ServiceError('unavailable', 'this coordinator is ending: try again'));
    const result = this.#queue.then(work).catch((error: unknown) => {
      if (!(error instanceof ServiceError)) this.#world.failed(error as Error);
      throw error;
    });
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #follow(record: TaskRecord): Promise<void> {
    const before = this.#state;
    this.#record = record;
    this.#roundMs = roundMsOf(record);
    const next = emptied(record);
    const isSame =
      next.round === before.round &&
      next.phase === before.phase &&
      next.version === before.version &&
      next.candidate?.number === before.candidate?.number;
    if (isSame) return this.#inviteMore(next);
    await this.#tellEnds();
    this.#tellOver();
    if (next.version !== before.version) {
      const { config } = this.#work;
      this.#base = await this.#world.registry.open(config.model, baseOf(config, next));
    }
    this.#takeOver(next);
    await this.#begin();
  }

  /** Without rounds the leader invites more agents as they come free. */
  #inviteMore(next: RoundState): void {
    const state = this.#state;
    if (state.phase !== 'Collecting' || next.phase !== 'Collecting') return;
    const known = new Set(state.cohort);
    this.#takeOver({ ...next, accepted: state.accepted, away: { ...next.away, ...state.away } });
    this.#inviteOwn(next.cohort.filter((agentId) => !known.has(agentId)));
  }

  /** Begins the round that the leader opened: with what this process took for it before, if it did. */
  async #begin(): Promise<void> {
    this.#work.reset();
    this.#shared.reset();
    await this.#openCandidate();
    const state = this.#state;
    if (state.phase !== 'Collecting') return;
    this.#inviteOwn(state.cohort);
  }

  async #openCandidate(): Promise<void> {
    const pending = this.#state.candidate;
    const { signer, store } = this.#world;
    const records = pending === undefined ? [] : await store.candidates(this.#work.config.model);
    const record = records.find(({ number }) => number === pending?.number);
    this.#candidate = record === undefined ? undefined : candidateToWire(signer.publicKey, record);
  }

  /** Each agent whose update was taken hears what became of it; where nothing did, it offers again and hears that. */
  async #tellEnds(): Promise<void> {
    const { accepted = [], candidate } = { accepted: undefined, ...this.#state };
    const waiting = candidate?.updates.filter(({ agentId }) => this.#world.fleet.hasSession(agentId)) ?? [];
    for (const { agentId, updateId } of [...accepted, ...waiting]) {
      const receipt = await this.#world.store.receipt(fromHex(updateId));
      if (receipt !== undefined) this.#world.fleet.send(agentId, receiptMessage(this.#world.signer, receipt));
    }
  }

  /** Those who train for the round that is over may stop. Without rounds what they bring is welcome all the same. */
  #tellOver(): void {
    if (this.#work.asynchronous !== undefined) return;
    for (const agentId of awaited(this.#state)) {
      this.#world.fleet.send(agentId, roundOver(this.task, this.#state.round));
    }
  }

  #inviteOwn(agents: readonly string[]): void {
    this.#invite(agents.filter((agentId) => this.#world.fleet.hasSession(agentId)));
  }

  #invite(agents: readonly string[]): void {
    const state = this.#state;
    if (state.phase !== 'Collecting') return;
    for (const agentId of agents) {
      this.#world.fleet.setReady(agentId, false);
      const { signed, weights } = this.#base;
      const champion = { signed, weights, ...(this.#candidate === undefined ? {} : { candidate: this.#candidate }) };
      const { message } = this.#invitations.of(agentId, state, champion, this.#leftMs(state));
      this.#world.fleet.send(agentId, message);
    }
  }

  /** How long an agent that is invited now may train; without rounds each has the whole time. */
  #leftMs(state: Collecting): number {
    const policy = policyNow(state, this.#work.policy);
    const goneMs = this.#work.asynchronous === undefined ? this.#leadersMs() - openedMs(state, policy) : 0;
    return policy.collectMs - goneMs;
  }

  /** What the leader's time must be about by now. A state says when it began by the leader's date, and this machine may have another. */
  #leadersMs(): number {
    if (this.#ofLeader === undefined) return 0;
    const { ms, seenMs } = this.#ofLeader;
    return ms + this.#world.monotonicMs() - seenMs;
  }

  #takeOver(state: RoundState): void {
    this.#state = state;
    const policy = policyNow(state, this.#work.policy);
    const ms = state.phase === 'Idle' ? state.startAtMs - policy.pauseMs : openedMs(state, policy);
    if (this.#ofLeader?.ms !== ms) this.#ofLeader = { ms, seenMs: this.#world.monotonicMs() };
  }

  #take({ agentId, updateId }: AcceptedUpdate): void {
    const state = this.#state;
    if (state.phase === 'Collecting') this.#state = { ...state, accepted: [...state.accepted, { agentId, updateId }] };
  }

  async #fold(header: UpdateHeader, payload: Uint8Array): Promise<Refusal | undefined> {
    const weight = this.#sum.weigh(header, this.#state.version);
    const counted = { weight, metrics: properMetrics(header.metrics) };
    const fault = await this.#sum.fold(header, payload, counted);
    return fault ?? this.#shared.claim(this.#key, header, payload);
  }

  async #refuse(header: UpdateHeader, refusal: Refusal): Promise<Submission> {
    if (!isFinal(refusal)) return { refusal };
    const update = updateOf(header);
    const receipt = rejectedReceipt(this.#world.signer, { ...header, round: update.round }, refusal);
    if (this.holds(header.updateId)) return { accepted: true };
    const ended = await this.#end(update.agentId, receipt);
    if (ended === 'held') return { accepted: true };
    if (ended !== 'refused') return ended;
    if (update.round === this.#state.round) await this.#giveUp(update.agentId);
    return { refusal, receipt };
  }

  /** The agent delivers nothing more in this round. */
  async #giveUp(agentId: string): Promise<void> {
    const state = this.#state;
    if (state.phase !== 'Collecting' || !awaits(state, agentId)) return;
    this.#state = withOut(state, agentId);
    await this.#world.shares.giveUp(this.#key, agentId);
  }

  /** Makes a refusal durable, as the leader would judge it now. Throws ServiceError where this replica is behind. */
  async #end(agentId: string, receipt: ReceiptRecord): Promise<'refused' | 'held' | { ended: ReceiptRecord }> {
    try {
      return await this.#shared.refuse(this.#key, agentId, receipt);
    } catch (error) {
      if (error instanceof ServiceError) {
        const record = (await this.#world.store.tasks()).find(({ task }) => task === this.task);
        if (record !== undefined) await this.#follow(record);
      }
      throw error;
    }
  }
}

/** A round that measures is of the version that was newest when it was opened; what trains starts from the newest. */
const baseOf = (config: AnyConfig, { phase, version }: RoundState): number =>
  'kind' in config && phase !== 'Idle' ? version : 0;

const roundMsOf = ({ countersJson }: TaskRecord): number | undefined => (JSON.parse(countersJson) as Counters).roundMs;

/** What the leader has taken itself is not this replica's to answer for. */
function emptied(record: TaskRecord): RoundState {
  const state = JSON.parse(record.roundJson) as RoundState;
  return state.phase === 'Idle' ? state : { ...state, accepted: [] };
}
