import type { Strategy } from '@commonweight/core';
import type { OfferedUpdate, SignedManifest, UpdateHeader } from '@commonweight/proto';
import { properMetrics } from '../driver/counters.ts';
import type { Fleet } from '../driver/fleet.ts';
import { Invitations } from '../driver/invitations.ts';
import { isFinal, rejectedReceipt, type Refusal } from '../driver/receipts.ts';
import { RoundSum } from '../driver/round-sum.ts';
import { SharedRound } from '../driver/shared-round.ts';
import { teacherOf } from '../driver/teacher.ts';
import {
  endedBefore,
  fromHex,
  hex,
  receiptMessage,
  refusalOf,
  refusalOfBytes,
  stillRefused,
  updateOf,
  type Offered,
  type Submission,
  type TaskWork,
} from '../driver/task-work.ts';
import type { Signer } from '../identity/signer.ts';
import type { OpenVersion, RegistryReads } from '../registry/registry.ts';
import { gridOf, parseTaskConfig, strategyOf, type TaskConfig } from '../round/policy.ts';
import { awaits, verdictOn, withOut, type AcceptedUpdate, type Collecting, type RoundState } from '../round/round.ts';
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
  readonly #config: TaskConfig;
  readonly #strategy: Strategy;
  readonly #world: FollowerWorld;
  readonly #sum: RoundSum;
  readonly #shared: SharedRound;
  readonly #invitations: Invitations;
  #record: TaskRecord;
  /** As the leader made it durable, with what this replica took. */
  #state: RoundState;
  #base: OpenVersion;
  #deadline: { ofLeaderMs: number; seenMs: number } | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  private constructor(
    world: FollowerWorld,
    record: TaskRecord,
    { base, teacher }: { base: OpenVersion; teacher: SignedManifest | undefined },
  ) {
    this.#world = world;
    this.task = record.task;
    this.#config = parseTaskConfig(record.configJson);
    this.#strategy = strategyOf(this.#config);
    const grid = gridOf(this.#config);
    const { spoolDir, shares } = world;
    const parameters = base.weights.length;
    this.#sum = new RoundSum(this.#config, { task: this.task, strategy: this.#strategy, grid, parameters, spoolDir });
    this.#shared = new SharedRound(shares, this.#sum, world);
    this.#invitations = new Invitations(
      { task: this.task, config: this.#config, teacher },
      this.#strategy,
      grid,
      world.signer,
    );
    this.#base = base;
    this.#record = record;
    this.#state = emptied(record);
  }

  static async open(world: FollowerWorld, record: TaskRecord): Promise<FollowerTask> {
    const config = parseTaskConfig(record.configJson);
    const base = await world.registry.open(config.model);
    const task = new FollowerTask(world, record, { base, teacher: await teacherOf(world.registry, config) });
    await task.#begin();
    return task;
  }

  get isRunning(): boolean {
    return this.#record.state === 'running';
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
      if (this.holds(updateId)) return 'held';
      const known = await this.#world.store.receipt(updateId);
      if (known !== undefined) return { ended: known };
      const round = Number(offered.round);
      const update = { agentId, updateId: hex(updateId), round, baseVersion: Number(offered.baseVersion) };
      if (verdictOn(this.#state, update, this.#strategy.asynchronous) === 'accepted') return 'wanted';
      const receipt = rejectedReceipt(this.#world.signer, { updateId, task: this.task, round }, 'stale-round');
      const ended = await this.#end(agentId, receipt);
      return ended === 'refused' ? { ended: receipt } : ended;
    });
  }

  refusalOfHeader(header: UpdateHeader): Refusal | undefined {
    const { asynchronous } = this.#strategy;
    const { signer } = this.#world;
    return refusalOf(header, {
      state: this.#state,
      config: this.#config,
      asynchronous,
      signer,
      length: this.#sum.length,
    });
  }

  submit(header: UpdateHeader, payload: Uint8Array): Promise<Submission> {
    return this.#enqueue(async () => {
      const ended = await endedBefore(this.#world.store, header, this.#strategy.asynchronous);
      if (ended !== undefined) return { ended };
      const refusal =
        this.refusalOfHeader(header) ?? refusalOfBytes(header, payload) ?? (await this.#fold(header, payload));
      if (refusal !== undefined) return this.#refuse(header, refusal);
      this.#take(updateOf(header));
      this.#world.fleet.setReady(header.agentId, true);
      return { accepted: true };
    });
  }

  refuse(header: UpdateHeader, refusal: Refusal): Promise<Submission> {
    return this.#enqueue(() => this.#refuse(header, stillRefused(this, header, refusal)));
  }

  holds(updateId: Uint8Array): boolean {
    return this.#sum.counted.has(hex(updateId));
  }

  /** The leader counts what goes over its own links. */
  addBytes(): void {}

  /** Ends what is under way; what was taken is in the rows, and nothing more is taken. */
  async close(): Promise<void> {
    const kept = this.checkpoint();
    this.#isClosed = true;
    await kept;
    await this.#sum.close();
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
    const next = emptied(record);
    const isSame = next.round === before.round && next.phase === before.phase && next.version === before.version;
    if (isSame) return this.#inviteMore(next);
    await this.#tellEnds();
    if (next.version !== before.version) this.#base = await this.#world.registry.open(this.#config.model);
    this.#state = next;
    await this.#begin();
  }

  /** Without rounds the leader invites more agents as they come free. */
  #inviteMore(next: RoundState): void {
    const state = this.#state;
    if (state.phase !== 'Collecting' || next.phase !== 'Collecting') return;
    const known = new Set(state.cohort);
    this.#state = { ...next, accepted: state.accepted, away: { ...next.away, ...state.away } };
    this.#inviteOwn(next.cohort.filter((agentId) => !known.has(agentId)));
  }

  /** Begins the round that the leader opened: with what this process took for it before, if it did. */
  async #begin(): Promise<void> {
    this.#sum.reset();
    this.#shared.reset();
    const state = this.#state;
    if (state.phase !== 'Collecting') return;
    this.#inviteOwn(state.cohort);
  }

  /** Each agent whose update was taken hears what became of it; where nothing did, it offers again and hears that. */
  async #tellEnds(): Promise<void> {
    if (this.#state.phase === 'Idle') return;
    for (const { agentId, updateId } of this.#state.accepted) {
      const receipt = await this.#world.store.receipt(fromHex(updateId));
      if (receipt !== undefined) this.#world.fleet.send(agentId, receiptMessage(this.#world.signer, receipt));
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
      const { message } = this.#invitations.of(agentId, state, this.#base, this.#leftMs(state));
      this.#world.fleet.send(agentId, message);
    }
  }

  /**
   * How long an agent that is invited now may train: the task's whole time less what has gone since this replica saw the deadline. The
   * deadline itself is a date of the leader's machine, and this one may have another.
   */
  #leftMs({ deadlineMs }: Collecting): number {
    const nowMs = this.#world.monotonicMs();
    if (this.#deadline?.ofLeaderMs !== deadlineMs) this.#deadline = { ofLeaderMs: deadlineMs, seenMs: nowMs };
    const goneMs = this.#strategy.asynchronous === undefined ? nowMs - this.#deadline.seenMs : 0;
    return this.#config.collectMs - goneMs;
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

/** What the leader has taken itself is not this replica's to answer for. */
function emptied(record: TaskRecord): RoundState {
  const state = JSON.parse(record.roundJson) as RoundState;
  return state.phase === 'Idle' ? state : { ...state, accepted: [] };
}
