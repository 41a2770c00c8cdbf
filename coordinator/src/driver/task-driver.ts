import {
  buildEvaluationGraph,
  buildTrainingGraph,
  evaluationOf,
  invariant,
  layoutOf,
  type ModelProto,
} from '@commonweight/core';
import {
  CandidateState,
  type OfferedUpdate,
  type SignedManifest,
  type TaskStatus,
  type UpdateHeader,
} from '@commonweight/proto';
import type { Signer } from '../identity/signer.ts';
import { candidateRecord, openedCandidate, type OpenCandidate } from '../registry/candidates.ts';
import type { OpenVersion, Registry } from '../registry/registry.ts';
import type { Call } from '../return-time.ts';
import { callOf, openedMs, typicalMs } from '../round/call.ts';
import { parseConfig, type AnyConfig } from '../round/config.ts';
import { strategyOf, taskDefaults, type TaskConfig } from '../round/policy.ts';
import {
  awaited,
  awaits,
  firstState,
  policyNow,
  step,
  trainingEndMs,
  turnOf,
  verdictOn,
  type AcceptedUpdate,
  type RoundEffect,
  type RoundEvent,
  type RoundPolicy,
  type RoundState,
} from '../round/round.ts';
import { restingIn } from '../round/separation.ts';
import { ServiceError } from '../service.ts';
import type { RoundKey } from '../store/shares.ts';
import type { CandidateRecord, Commit, ReceiptRecord, Store, TaskRecord } from '../store/store.ts';
import { noCounts, properMetrics, type Counters } from './counters.ts';
import type { Fleet } from './fleet.ts';
import { inBatches } from './in-batches.ts';
import { Invitations, type Champion } from './invitations.ts';
import { endedBy, Outcomes, type AgentReceipt, type Collected } from './outcomes.ts';
import { takePart, type Folding, type Part, type PartRefusals } from './parts.ts';
import { isFinal, rejectedReceipt, type Refusal } from './receipts.ts';
import type { FoldedSum } from './round-sum.ts';
import { RoundWork } from './round-work.ts';
import { SharedRound } from './shared-round.ts';
import { statusOf, type TaskState } from './task-status.ts';
import { teacherOf, withTeacher } from './teacher.ts';
import {
  endedBefore,
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
} from './task-work.ts';

/** What a driver works with. */
export interface DriverWorld {
  store: Store;
  registry: Registry;
  signer: Signer;
  fleet: Fleet;
  /** Folder for what robust rules read; made when it is needed, and swept on start. */
  spoolDir: string;
  /** Goes on evenly from the date at which this process began (`evenTime`): all that waits, waits by it. */
  nowMs(): number;
  /** The date, for people to read. */
  dateMs(): number;
  /** Never goes back. */
  monotonicMs(): number;
  /** Resolves after a time. */
  sleep(ms: number): Promise<void>;
  log(line: string): void;
  /** Tells watchers of a version that is committed. */
  announce(model: string, release: SignedManifest): void;
  /** A commit failed; the driver went back to what the disk has. */
  failed(error: unknown): void;
  /** The task's status is another now. */
  changed(task: string): void;
}

/**
 * Drives the rounds of one task: saves the machine's state, performs its effects, then answers. What happens to a task
 * happens one after the other. Opening and committing a round are saved; accepted updates are not, since their agents keep
 * them until the commit.
 */
export class TaskDriver implements TaskWork {
  readonly task: string;
  readonly config: AnyConfig;
  readonly #world: DriverWorld;
  readonly #work: RoundWork;
  readonly #outcomes: Outcomes;
  readonly #invitations: Invitations;
  readonly #configJson: string;
  readonly #counters: Counters;
  #taskState: TaskState;
  /** What the disk has. */
  #durable: { state: RoundState; taskState: TaskState };
  #state: RoundState;
  #base: OpenVersion;
  /** What agents are to evaluate, while it is not decided. */
  #candidate: OpenCandidate | undefined;
  /** What other replicas have of the round; undefined where there is one coordinator. */
  readonly #shared: SharedRound | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(world: DriverWorld, record: TaskRecord, work: RoundWork, base: OpenVersion) {
    this.#world = world;
    this.task = record.task;
    this.config = work.config;
    this.#configJson = record.configJson;
    this.#work = work;
    this.#outcomes = new Outcomes(record.task, work, world);
    this.#invitations = new Invitations(record.task, work, world.signer);
    this.#taskState = record.state as TaskState;
    this.#state = JSON.parse(record.roundJson) as RoundState;
    this.#durable = { state: this.#state, taskState: this.#taskState };
    this.#counters = JSON.parse(record.countersJson) as Counters;
    this.#base = base;
    const { shares } = world.store;
    if (shares !== undefined) this.#shared = new SharedRound(shares, () => this.#sum, world);
  }

  /** Makes a task, paused. Throws ConfigError or NotTrainableError where it cannot work. */
  static async create(world: DriverWorld, task: string, configJson: string): Promise<TaskDriver> {
    const given = parseConfig(configJson);
    const base = await world.registry.open(given.model);
    const graph = await world.registry.graph(base.manifest);
    const config = 'kind' in given ? given : await withTeacher(world.registry, given, graph);
    if (!('kind' in config)) requireTrainable(graph, config);
    invariant(layoutOf(graph).length === base.weights.length, 'graph and weights of a version agree');
    const record: TaskRecord = {
      task,
      configJson: JSON.stringify(written(config)),
      state: 'paused',
      roundJson: JSON.stringify(firstState(Number(base.manifest.version))),
      countersJson: JSON.stringify(noCounts()),
    };
    const teacher = await teacherOf(world.registry, config);
    const parts = { graph, parameters: base.weights.length, spoolDir: world.spoolDir, teacher };
    const driver = new TaskDriver(world, record, new RoundWork(task, config, parts), base);
    // The teacher has to be there as long as the task is.
    const taught = 'kind' in config ? undefined : config.teacher;
    const pin = taught === undefined ? {} : { pin: { ...taught, isPinned: true } };
    await world.store.commit({ task: record, round: { task, round: 0, open: false }, ...pin });
    return driver;
  }

  /** A task as the store has it: an open round goes on, and asks for its updates again. */
  static async load(world: DriverWorld, record: TaskRecord): Promise<TaskDriver> {
    const config = parseConfig(record.configJson);
    const { phase, version } = JSON.parse(record.roundJson) as RoundState;
    // A round that measures is of the version that was newest when it was opened.
    const base = await world.registry.open(config.model, 'kind' in config && phase !== 'Idle' ? version : 0);
    const graph = await world.registry.graph(base.manifest);
    const teacher = await teacherOf(world.registry, config);
    const parts = { graph, parameters: base.weights.length, spoolDir: world.spoolDir, teacher };
    const driver = new TaskDriver(world, record, new RoundWork(record.task, config, parts), base);
    await driver.#enqueue(() => driver.#recover());
    return driver;
  }

  async #recover(): Promise<void> {
    await this.#openCandidate();
    await this.#step({ type: 'Recovered', nowMs: this.#world.nowMs() });
    await this.#shared?.resume(this.#key, this.#state.phase === 'Collecting');
    await this.#readClaims();
  }

  /** What agents are to evaluate, as the store has it. */
  async #openCandidate(): Promise<void> {
    const pending = this.#state.candidate;
    this.#candidate = undefined;
    if (pending === undefined) return;
    const { registry, signer, store } = this.#world;
    const records = await store.candidates(this.config.model);
    const record = records.find(({ number }) => number === pending.number);
    invariant(record !== undefined, 'a candidate is kept until it is decided');
    this.#candidate = await openedCandidate(registry, signer.publicKey, record);
  }

  /** The model has a new version, which another task made: one that measures goes on to it once its round is over. */
  versionCame(): Promise<void> {
    return this.#enqueue(() => this.#follow());
  }

  async #follow(): Promise<void> {
    if (this.publishes || this.#taskState !== 'running' || this.#state.phase !== 'Idle') return;
    await this.#rebase();
    await this.#step(this.#tick());
  }

  start(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#taskState === 'finished') {
        throw new ServiceError('invalid', `task "${this.task}" is finished: create another one to train further`);
      }
      await this.#rebase();
      await this.#setState('running');
      await this.#step(this.#tick());
    });
  }

  /**
   * Commits a version of the task's model with what an older one has, and goes on from it; an open round is abandoned. Throws
   * ServiceError where there is no such version.
   */
  rollback(version: number): Promise<SignedManifest> {
    return this.#enqueue(async () => {
      const { registry } = this.#world;
      const restored = await registry.restored(this.config.model, version, this.#world.dateMs());
      await this.#rebaseOn(restored.open, { version: restored.version });
      this.#world.announce(this.config.model, restored.open.signed);
      await this.#step(this.#tick());
      return restored.open.signed;
    });
  }

  /** Goes on from the newest version, whoever made it. */
  async #rebase(): Promise<void> {
    const { registry } = this.#world;
    const { version } = await registry.newest(this.config.model);
    if (Number(version) !== this.#state.version) await this.#rebaseOn(await registry.open(this.config.model), {});
  }

  async #rebaseOn(base: OpenVersion, commit: Commit): Promise<void> {
    const version = Number(base.manifest.version);
    const event = { type: 'Rebased', nowMs: this.#world.nowMs(), version } as const;
    const { state, effects } = step(this.#state, event, this.#work.policy);
    const abandoned = effects.filter(({ type }) => type === 'AbandonRound').length;
    const dropped = await this.#dropped(version);
    const receipts = dropped.receipts.map(({ record }) => record);
    await this.#saveCounting({ roundsAbandoned: this.#counters.roundsAbandoned + abandoned }, state, {
      ...commit,
      ...(dropped.candidate === undefined ? {} : { candidate: dropped.candidate, receipts }),
      round: { task: this.task, round: state.round, open: false },
    });
    if (abandoned > 0) this.#tellOver(this.#state.round, awaited(this.#state));
    this.#state = state;
    this.#base = base;
    this.#candidate = undefined;
    this.#startSum();
    this.#world.log(`${this.task}: goes on from version ${version}`);
    this.#world.changed(this.task);
    await this.#tellEnds(dropped.receipts);
  }

  /** What waits for a verdict is no child of what the model goes on from. */
  async #dropped(version: number): Promise<{ candidate?: CandidateRecord; receipts: readonly AgentReceipt[] }> {
    const pending = this.#state.candidate;
    if (pending === undefined || this.#candidate === undefined) return { receipts: [] };
    const { signer } = this.#world;
    const { candidate } = this.#candidate;
    const why = `the model went on from version ${version}`;
    return {
      candidate: candidateRecord(signer, { ...candidate, state: CandidateState.DROPPED, why }),
      receipts: await endedBy(
        this.#world,
        this.task,
        { round: candidate.round, updates: pending.updates },
        'stale-round',
      ),
    };
  }

  /** Makes counts durable with a state; where that fails they are what they were. */
  async #saveCounting(counters: Partial<Counters>, state: RoundState, commit: Commit): Promise<void> {
    const before = { ...this.#counters };
    Object.assign(this.#counters, counters);
    try {
      await this.#save(state, commit);
    } catch (error) {
      Object.assign(this.#counters, before);
      throw error;
    }
  }

  pause(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#taskState === 'running') await this.#setState('paused');
    });
  }

  async #setState(state: TaskState): Promise<void> {
    this.#taskState = state;
    if (state !== 'running') this.#world.fleet.waitsNoMore(this.task);
    await this.#save(this.#state);
    this.#world.changed(this.task);
  }

  #event(event: RoundEvent): Promise<void> {
    return this.#enqueue(() => this.#step(event));
  }

  agentBack(agentId: string): Promise<void> {
    return this.#event({ type: 'AgentBack', nowMs: this.#world.nowMs(), agentId });
  }

  agentAway(agentId: string): Promise<void> {
    return this.#event({ type: 'AgentAway', nowMs: this.#world.nowMs(), agentId });
  }

  agentOut(agentId: string, round: number): Promise<void> {
    return this.#event({ type: 'AgentOut', nowMs: this.#world.nowMs(), agentId, round });
  }

  /** Other replicas took updates for the round, or lost some. */
  claimsChanged(): Promise<void> {
    return this.#enqueue(() => this.#readClaims());
  }

  /** Makes what this coordinator has of the round outlive it. */
  checkpoint(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#state.phase === 'Collecting') await this.#shared?.checkpoint(this.#key);
    });
  }

  /** Looks whether something is due. */
  tick(): Promise<void> {
    return this.#enqueue(() => this.#step(this.#tick()));
  }

  /** An agent is free: invites it again where its invitation got lost, else looks whether a round can open. */
  agentReady(agentId: string): Promise<void> {
    return this.#enqueue(async () => {
      // It may have been invited between saying so and now.
      if (!this.#world.fleet.isReady(agentId)) return;
      if (awaits(this.#state, agentId)) await this.#invite([agentId]);
      else if (this.#mayInvite) await this.#step(this.#tick());
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
      const refusal = refusalOfOffer(verdict);
      const receipt = rejectedReceipt(this.#world.signer, { updateId, task: this.task, round }, refusal);
      const ended = await this.#end(agentId, receipt);
      if (ended !== 'refused') return ended;
      this.#count(refusal);
      return { ended: receipt };
    });
  }

  holds(updateId: Uint8Array): boolean {
    const id = hex(updateId);
    if (this.#state.candidate?.updates.some(({ updateId }) => updateId === id) === true) return true;
    return this.#sum.counted.has(id) || this.#shared?.others.has(id) === true;
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

  get #sum(): FoldedSum {
    return this.#work.sumOf(this.#state);
  }

  submit(header: UpdateHeader, payload: Uint8Array): Promise<Submission> {
    return this.#enqueue(async () => {
      const ended = await endedBefore(this.#world.store, header, this.#work.asynchronous);
      if (ended !== undefined) return { ended };
      const refusal =
        this.refusalOfHeader(header) ?? refusalOfBytes(header, payload) ?? (await this.#fold(header, payload));
      if (refusal !== undefined) return this.#refuse(header, refusal);
      const { agentId } = header;
      this.#world.fleet.setReady(agentId, true, this.#world.nowMs());
      await this.#step({ type: 'UpdateReceived', nowMs: this.#world.nowMs(), ...updateOf(header) });
      // Without rounds its place is somebody else's now.
      if (this.#work.asynchronous !== undefined) await this.#step(this.#tick());
      return { accepted: true };
    });
  }

  folding(round: number): Folding | undefined {
    const state = this.#state;
    if (round !== state.round || this.#work.partsGridOf(state) === undefined) return undefined;
    return { configJson: this.#configJson, baseVersion: state.version, parameters: this.#base.weights.length };
  }

  submitPart(part: Part): Promise<PartRefusals> {
    return this.#enqueue(async () => {
      const round = this.#state;
      const refusals = await takePart(part, {
        key: this.#key,
        version: round.version,
        sum: this.#sum,
        grid: this.#work.partsGridOf(round),
        shared: this.#shared,
        ended: (updateId) => this.#world.store.receipt(updateId),
        refusalOf: (header) => this.refusalOfHeader(header),
        refuse: (header, refusal) => this.#refuse(header, refusal),
      });
      if (refusals.size > 0) return refusals;
      const updates = part.updates.map(updateOf);
      for (const { agentId } of updates) this.#world.fleet.setReady(agentId, true, this.#world.nowMs());
      await this.#step({
        type: 'PartReceived',
        nowMs: this.#world.nowMs(),
        round: round.round,
        updates: updates.map(({ agentId, updateId }) => ({ agentId, updateId })),
      });
      return refusals;
    });
  }

  refuse(header: UpdateHeader, refusal: Refusal): Promise<Submission> {
    return this.#enqueue(() => this.#refuse(header, stillRefused(this, header, refusal)));
  }

  addBytes(direction: 'up' | 'down', bytes: number): void {
    if (direction === 'up') this.#counters.bytesUp += bytes;
    else this.#counters.bytesDown += bytes;
  }

  callFor(agentId: string): Call | undefined {
    const { fleet } = this.#world;
    const { judging, wanting } = this.#work;
    const isWanted = fleet.qualifies(agentId, wanting) || (judging !== undefined && fleet.qualifies(agentId, judging));
    if (!this.isRunning || !isWanted) return undefined;
    const { roundMs } = this.#counters;
    return callOf(this.#state, this.#policy, { agentId, nowMs: this.#world.nowMs(), roundMs });
  }

  /** Agents that are free and may work for this task. */
  get readyAgents(): string[] {
    return this.#world.fleet.readyFor(this.#work.wanting);
  }

  get isRunning(): boolean {
    return this.#taskState === 'running';
  }

  /** Whether its rounds are to make versions. */
  get publishes(): boolean {
    return this.#work.training !== undefined;
  }

  /** Whether it may publish a version now: it runs, or its last round before the pause is still open. */
  get isBusy(): boolean {
    if (!this.publishes) return false;
    return this.isRunning || this.#state.phase !== 'Idle' || this.#state.candidate !== undefined;
  }

  status(): TaskStatus {
    return statusOf({
      task: this.task,
      config: this.config,
      configJson: this.#configJson,
      work: this.#work,
      fleet: this.#world.fleet,
      state: this.#state,
      taskState: this.#taskState,
      counters: this.#counters,
      version: this.#base.manifest.version,
      nowMs: this.#world.nowMs(),
    });
  }

  /** Resolves when what was asked before is done. */
  settled(): Promise<void> {
    return this.#enqueue(async () => {});
  }

  /** Ends what is under way. Of an open round its state is left, and where others share the work, the part of the sum. */
  async close(): Promise<void> {
    await this.checkpoint();
    await this.#work.close();
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work).catch(async (error: unknown) => {
      // A call that was wrong changed nothing.
      if (!(error instanceof ServiceError)) await this.#takeBack(error);
      throw error;
    });
    this.#queue = result.catch(() => undefined);
    return result;
  }

  /** Makes a state durable with what belongs to it. */
  async #save(state: RoundState, commit: Commit = {}): Promise<void> {
    await this.#world.store.commit({ ...commit, task: this.#record(state) });
    this.#durable = { state, taskState: this.#taskState };
  }

  /** After a failure what holds is what the disk has; the updates of an open round are asked for again, as after a restart. */
  async #takeBack(error: unknown): Promise<void> {
    const { state, taskState } = this.#durable;
    this.#taskState = taskState;
    this.#state = step(state, { type: 'Recovered', nowMs: this.#world.nowMs() }, this.#work.policy).state;
    this.#startSum();
    this.#world.failed(error);
    await this.#shared?.resume(this.#key, this.#state.phase === 'Collecting').catch((fatal: unknown) => {
      this.#world.failed(fatal);
    });
    this.#world.changed(this.task);
  }

  get #key(): RoundKey {
    return { task: this.task, round: this.#state.round };
  }

  #tick(): RoundEvent {
    const { fleet, nowMs } = this.#world;
    // A round that is open goes on when its task is paused, and nobody more is invited.
    if (this.#taskState !== 'running' || !this.#mayInvite) {
      fleet.waitsNoMore(this.task);
      return { type: 'Tick', nowMs: nowMs(), ready: [] };
    }
    const { judging, wanting } = this.#work;
    this.#takeTurn();
    const ready = this.#state.candidate === undefined ? fleet.readyFor(wanting) : [];
    const isJudged = judging !== undefined && (this.#state.candidate !== undefined || this.#policy.needsRoot === true);
    return { type: 'Tick', nowMs: nowMs(), ready, ...(isJudged ? { judges: fleet.readyFor(judging) } : {}) };
  }

  /** Says whether a round of this task is due: other tasks of the same agents leave it what it needs, where it has waited for longer. */
  #takeTurn(): void {
    const { fleet, nowMs } = this.#world;
    const state = this.#state;
    const isMeasured = this.#policy.oncePerVersion === true && 'measured' in state && state.measured === state.version;
    const wanting = state.candidate === undefined ? this.#work.wanting : this.#work.judging;
    if (!this.isRunning || state.phase !== 'Idle' || nowMs() < state.startAtMs || isMeasured || wanting === undefined)
      return fleet.waitsNoMore(this.task);
    const resting = restingIn(turnOf(state) + 1, state, this.#policy.separation);
    const leavesOut = (agentId: string): boolean => state.candidate === undefined && resting.has(agentId);
    fleet.waits({ wanting, atLeast: this.#policy.cohortMin, leavesOut }, nowMs());
  }

  /** How the round goes that is open, or is opened next. */
  get #policy(): RoundPolicy {
    return policyNow(this.#state, this.#work.policy);
  }

  /** An open round asks nobody more; without rounds there is always a place for somebody. */
  get #mayInvite(): boolean {
    return this.#state.phase === 'Idle' || this.#work.asynchronous !== undefined;
  }

  async #step(event: RoundEvent): Promise<void> {
    if (this.#taskState !== 'running' && event.type === 'Tick' && this.#state.phase === 'Idle') return;
    const before = this.#state;
    const { state, effects } = step(before, event, this.#work.policy);
    if (state === before && effects.length === 0) return;
    this.#state = state;
    for (const effect of effects) await this.#perform(effect);
    if (effects.some(({ type }) => type === 'AbandonRound')) this.#tellOver(before.round, awaited(before));
    this.#world.changed(this.task);
  }

  async #perform(effect: RoundEffect): Promise<void> {
    switch (effect.type) {
      case 'Invite':
        this.#world.fleet.waitsNoMore(this.task);
        this.#startSum();
        await this.#save(this.#state, { round: { ...this.#key, open: true } });
        this.#world.log(
          `${this.task}: round ${effect.round} invites ${effect.cohort.length} agents on version ${effect.version}`,
        );
        return this.#invite(effect.cohort);
      case 'InviteMore':
        // Followers read from the rows whom they invite.
        if (this.#shared !== undefined) await this.#save(this.#state);
        return this.#invite(effect.cohort);
      case 'Publish':
        return this.#publish(effect.accepted);
      case 'AbandonRound':
        this.#counters.roundsAbandoned++;
        this.#startSum();
        await this.#save(this.#state, { round: { ...this.#key, open: false } });
        return this.#world.log(`${this.task}: round ${effect.round} abandoned: ${effect.reason}`);
      case 'Finish':
        this.#taskState = 'finished';
        this.#world.fleet.waitsNoMore(this.task);
        await this.#save(this.#state);
        return this.#world.log(`${this.task}: finished after ${this.#state.published} rounds`);
    }
  }

  #startSum(): void {
    this.#work.reset();
    this.#shared?.reset();
  }

  #invite(cohort: readonly string[]): Promise<void> {
    const state = this.#state;
    invariant(state.phase === 'Collecting', 'agents are invited while a round collects');
    return this.#forEach(cohort, (agentId) => {
      this.#world.fleet.setReady(agentId, false);
      const leftMs = trainingEndMs(state, agentId) - this.#world.nowMs();
      const { message, bytes } = this.#invitations.of(agentId, state, this.#champion, leftMs);
      this.addBytes('down', bytes);
      this.#world.fleet.send(agentId, message);
    });
  }

  #forEach<Item>(items: Iterable<Item>, work: (item: Item) => void): Promise<void> {
    return inBatches(items, work, () => this.#world.sleep(0));
  }

  get #champion(): Champion {
    const { signed, weights } = this.#base;
    return this.#candidate === undefined ? { signed, weights } : { signed, weights, candidate: this.#candidate.signed };
  }

  /** Those who train for a round that is over may stop. Without rounds what they bring is welcome all the same. */
  #tellOver(round: number, agents: readonly string[]): void {
    if (this.#work.asynchronous !== undefined) return;
    for (const agentId of agents) this.#world.fleet.send(agentId, roundOver(this.task, round));
  }

  async #fold(header: UpdateHeader, payload: Uint8Array): Promise<Refusal | undefined> {
    const weight = this.#sum.weigh(header, this.#state.version);
    const counted = { weight, metrics: properMetrics(header.metrics) };
    const fault = await this.#sum.fold(header, payload, counted);
    return fault ?? this.#shared?.claim(this.#key, header, payload);
  }

  /** What other replicas took, as if it had come here; and what went with one that died. */
  async #readClaims(): Promise<void> {
    if (this.#shared === undefined || this.#state.phase !== 'Collecting') return;
    const { round } = this.#state;
    const { came, went, out } = await this.#shared.read(this.#key);
    const nowMs = this.#world.nowMs();
    const events: RoundEvent[] = [
      ...(went.length === 0 ? [] : [{ type: 'Withdrawn', nowMs, updateIds: went } as const]),
      ...came.map(({ agentId, updateId }) => {
        return { type: 'UpdateReceived', nowMs, agentId, updateId, round, baseVersion: this.#state.version } as const;
      }),
      ...out.map((agentId) => ({ type: 'AgentOut', nowMs, agentId, round }) as const),
    ];
    // One of them may close the round, and then the rest was part of what it read.
    for (const event of events) if (this.#isCollecting(round)) await this.#step(event);
  }

  #isCollecting(round: number): boolean {
    return this.#state.phase === 'Collecting' && this.#state.round === round;
  }

  /** Makes a refusal durable, unless the update has ended or is in a sum. */
  async #end(agentId: string, receipt: ReceiptRecord): Promise<'refused' | 'held' | { ended: ReceiptRecord }> {
    if (this.#shared !== undefined) {
      const ended = await this.#shared.refuse(this.#key, agentId, receipt);
      if (ended !== 'refused') return ended;
    }
    await this.#save(this.#state, { receipts: [receipt] });
    return 'refused';
  }

  async #refuse(header: UpdateHeader, refusal: Refusal): Promise<Submission> {
    // Whoever judged it may have done so before its turn: what was taken or has ended meanwhile is not refused any more.
    if (isFinal(refusal)) {
      if (this.holds(header.updateId)) return { accepted: true };
      const known = await this.#world.store.receipt(header.updateId);
      if (known !== undefined) return { ended: known };
    }
    this.#count(refusal);
    if (!isFinal(refusal)) return { refusal };
    const { agentId, round } = updateOf(header);
    const receipt = rejectedReceipt(this.#world.signer, { ...header, round }, refusal);
    const ended = await this.#end(agentId, receipt);
    if (ended === 'held') return { accepted: true };
    if (ended !== 'refused') return ended;
    await this.#step({ type: 'AgentOut', nowMs: this.#world.nowMs(), agentId, round });
    return { refusal, receipt };
  }

  #count(refusal: Refusal): void {
    this.#counters.updatesRejected++;
    this.#counters.rejectedByReason[refusal] = (this.#counters.rejectedByReason[refusal] ?? 0) + 1;
    this.#world.changed(this.task);
  }

  /** What a version is made of: all that was taken, also by others. Undefined where too little of it is left. */
  async #collect(accepted: readonly AcceptedUpdate[]): Promise<Collected | undefined> {
    const own = this.#sum.counted;
    if (this.#shared === undefined) {
      return new Map(
        accepted.map(({ agentId, updateId }) => {
          const counted = own.get(updateId);
          invariant(counted !== undefined, 'an accepted update is in the sum');
          return [updateId, { ...counted, agentId }];
        }),
      );
    }
    const isEnough = (taken: Collected): boolean => hasMinimum(taken, this.#state, this.#policy);
    const all = await this.#shared.collect(this.#key, isEnough);
    if (isEnough(all)) return all;
    const updateIds = accepted.map(({ updateId }) => updateId).filter((id) => !all.has(id));
    await this.#step({ type: 'Withdrawn', nowMs: this.#world.nowMs(), updateIds });
    return undefined;
  }

  /** What the round came to, receipts and the machine's next state in one transaction; only then is anybody told. */
  async #publish(accepted: readonly AcceptedUpdate[]): Promise<void> {
    const closed = this.#state;
    const collected = await this.#collect(accepted);
    if (collected === undefined) return;
    const [base, candidate, counters] = [this.#base, this.#candidate, this.#counters];
    const outcome = await this.#outcomes.of({ state: closed, base, candidate, collected, counters });
    const after = step(closed, outcome.event, this.#work.policy).state;
    const roundMs = typicalMs(counters.roundMs, this.#roundMs());
    // How long an evaluation takes says nothing of rounds of training.
    const timed = candidate === undefined ? { roundMs } : {};
    await this.#saveCounting({ ...outcome.counters, ...timed }, after, {
      ...outcome.commit,
      receipts: outcome.receipts.map(({ record }) => record),
      round: { task: this.task, round: after.round, open: after.phase === 'Collecting' },
    });
    const delivered = new Set([...collected.values()].map(({ agentId }) => agentId));
    this.#tellOver(
      closed.round,
      awaited(closed).filter((agentId) => !delivered.has(agentId)),
    );
    this.#state = after;
    this.#base = outcome.base;
    this.#candidate = outcome.candidate;
    this.#startSum();
    if (outcome.release !== undefined) this.#world.announce(this.config.model, outcome.release);
    await this.#tellEnds(outcome.receipts);
    this.#world.log(`${this.task}: ${outcome.log}`);
    await this.#follow();
    await this.#step(this.#tick());
  }

  #tellEnds(receipts: readonly AgentReceipt[]): Promise<void> {
    const { fleet, signer } = this.#world;
    return this.#forEach(receipts, ({ agentId, record }) => fleet.send(agentId, receiptMessage(signer, record)));
  }

  /** How long the round has been open. */
  #roundMs(): number {
    const state = this.#state;
    invariant(state.phase !== 'Idle', 'a round is open until it is published');
    return Math.max(0, this.#world.nowMs() - openedMs(state, this.#policy));
  }

  #record(state: RoundState): TaskRecord {
    return {
      task: this.task,
      configJson: this.#configJson,
      state: this.#taskState,
      roundJson: JSON.stringify(state),
      countersJson: JSON.stringify(this.#counters),
    };
  }
}

/** Whether a version may be made of these updates: enough of clients, and that of the evaluator where one is needed. */
function hasMinimum(taken: Collected, state: RoundState, { cohortMin }: RoundPolicy): boolean {
  const root = state.phase === 'Idle' ? undefined : state.root;
  const clients = [...taken.values()].filter(({ agentId }) => agentId !== root).length;
  return clients >= cohortMin && (root === undefined || clients < taken.size);
}

/** Without what is as it is by default: a coordinator of the version before, which shares the database, does not know it. */
function written(config: AnyConfig): object {
  if ('kind' in config) return config;
  const { retainUpdates, compression, downlink, ...rest } = config;
  return {
    ...rest,
    ...(downlink === taskDefaults.downlink ? {} : { downlink }),
    ...(retainUpdates === 0 ? {} : { retainUpdates }),
    ...(compression === taskDefaults.compression ? {} : { compression }),
  };
}

/** Built once only to learn now, and not on an agent, whether the model can be trained and measured so. */
function requireTrainable(graph: ModelProto, config: TaskConfig): void {
  buildTrainingGraph(graph, strategyOf(config).instruct(config.plan));
  const asked = evaluationOf(config.plan);
  if (asked !== undefined) buildEvaluationGraph(graph, asked, 1);
}
