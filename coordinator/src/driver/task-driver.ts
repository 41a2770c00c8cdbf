import { create, toBinary } from '@bufbuild/protobuf';
import {
  buildEvaluationGraph,
  buildTrainingGraph,
  evaluationOf,
  invariant,
  layoutOf,
  type Strategy,
} from '@commonweight/core';
import {
  ContributionListSchema,
  TaskStatusSchema,
  type OfferedUpdate,
  type SignedManifest,
  type TaskStatus,
  type UpdateHeader,
} from '@commonweight/proto';
import type { Signer } from '../identity/signer.ts';
import { blobOf, type OpenVersion, type Registry } from '../registry/registry.ts';
import { gridOf, parseTaskConfig, policyOf, strategyOf, type TaskConfig } from '../round/policy.ts';
import {
  awaited,
  awaits,
  firstState,
  step,
  trainingEndMs,
  verdictOn,
  type AcceptedUpdate,
  type RoundEffect,
  type RoundEvent,
  type RoundPolicy,
  type RoundState,
} from '../round/round.ts';
import { ServiceError } from '../service.ts';
import type { RoundKey } from '../store/shares.ts';
import type { Commit, ReceiptRecord, Store, TaskRecord } from '../store/store.ts';
import { noCounts, properMetrics, type Counters } from './counters.ts';
import type { Fleet } from './fleet.ts';
import { Invitations } from './invitations.ts';
import { committedReceipt, isFinal, rejectedReceipt, type Refusal } from './receipts.ts';
import { meansOf, RoundSum, type Counted } from './round-sum.ts';
import { SharedRound } from './shared-round.ts';
import { teacherOf, withTeacher } from './teacher.ts';
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

export type TaskState = 'paused' | 'running' | 'finished';

/**
 * Drives the rounds of one task: saves the machine's state, performs its effects, then answers. What happens to a task
 * happens one after the other. Opening and committing a round are saved; accepted updates are not, since their agents keep
 * them until the commit.
 */
export class TaskDriver implements TaskWork {
  readonly task: string;
  readonly config: TaskConfig;
  readonly #world: DriverWorld;
  readonly #policy: RoundPolicy;
  readonly #strategy: Strategy;
  readonly #invitations: Invitations;
  readonly #configJson: string;
  readonly #counters: Counters;
  #taskState: TaskState;
  /** What the disk has. */
  #durable: { state: RoundState; taskState: TaskState };
  #state: RoundState;
  #base: OpenVersion;
  readonly #sum: RoundSum;
  /** What other replicas have of the round; undefined where there is one coordinator. */
  readonly #shared: SharedRound | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(
    world: DriverWorld,
    record: TaskRecord,
    config: TaskConfig,
    { base, teacher }: { base: OpenVersion; teacher: SignedManifest | undefined },
  ) {
    this.#world = world;
    this.task = record.task;
    this.config = config;
    this.#configJson = record.configJson;
    this.#policy = policyOf(config);
    this.#strategy = strategyOf(config);
    const grid = gridOf(config);
    this.#invitations = new Invitations({ task: record.task, config, teacher }, this.#strategy, grid, world.signer);
    this.#taskState = record.state as TaskState;
    this.#state = JSON.parse(record.roundJson) as RoundState;
    this.#durable = { state: this.#state, taskState: this.#taskState };
    this.#counters = JSON.parse(record.countersJson) as Counters;
    this.#base = base;
    const { spoolDir, store } = world;
    const parts = { task: record.task, strategy: this.#strategy, grid, parameters: base.weights.length, spoolDir };
    this.#sum = new RoundSum(config, parts);
    if (store.shares !== undefined) this.#shared = new SharedRound(store.shares, this.#sum, world);
  }

  /** Makes a task, paused. Throws ConfigError or NotTrainableError where it cannot work. */
  static async create(world: DriverWorld, task: string, configJson: string): Promise<TaskDriver> {
    const given = parseTaskConfig(configJson);
    const base = await world.registry.open(given.model);
    const graph = await world.registry.graph(base.manifest);
    const config = await withTeacher(world.registry, given, graph);
    const teacher = await teacherOf(world.registry, config);
    // Built once only to learn now, and not on an agent, whether the model can be trained and measured so.
    buildTrainingGraph(graph, strategyOf(config).instruct(config.plan));
    const asked = evaluationOf(config.plan);
    if (asked !== undefined) buildEvaluationGraph(graph, asked, 1);
    invariant(layoutOf(graph).length === base.weights.length, 'graph and weights of a version agree');
    const record: TaskRecord = {
      task,
      configJson: JSON.stringify(written(config)),
      state: 'paused',
      roundJson: JSON.stringify(firstState(Number(base.manifest.version))),
      countersJson: JSON.stringify(noCounts()),
    };
    const driver = new TaskDriver(world, record, config, { base, teacher });
    // The teacher has to be there as long as the task is.
    const pin = config.teacher === undefined ? {} : { pin: { ...config.teacher, isPinned: true } };
    await world.store.commit({ task: record, round: { task, round: 0, open: false }, ...pin });
    return driver;
  }

  /** A task as the store has it: an open round goes on, and asks for its updates again. */
  static async load(world: DriverWorld, record: TaskRecord): Promise<TaskDriver> {
    const config = parseTaskConfig(record.configJson);
    const base = await world.registry.open(config.model);
    const teacher = await teacherOf(world.registry, config);
    const driver = new TaskDriver(world, record, config, { base, teacher });
    await driver.#enqueue(() => driver.#recover());
    return driver;
  }

  async #recover(): Promise<void> {
    await this.#step({ type: 'Recovered', nowMs: this.#world.nowMs() });
    await this.#shared?.resume(this.#key, this.#state.phase === 'Collecting');
    await this.#readClaims();
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
    const { state, effects } = step(this.#state, event, this.#policy);
    const abandoned = effects.filter(({ type }) => type === 'AbandonRound').length;
    this.#counters.roundsAbandoned += abandoned;
    try {
      await this.#save(state, { ...commit, round: { task: this.task, round: state.round, open: false } });
    } catch (error) {
      this.#counters.roundsAbandoned -= abandoned;
      throw error;
    }
    this.#state = state;
    this.#base = base;
    this.#startSum();
    this.#world.log(`${this.task}: goes on from version ${version}`);
    this.#world.changed(this.task);
  }

  pause(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#taskState === 'running') await this.#setState('paused');
    });
  }

  async #setState(state: TaskState): Promise<void> {
    this.#taskState = state;
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
      if (awaits(this.#state, agentId)) this.#invite([agentId]);
      else if (this.#mayInvite) await this.#step(this.#tick());
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

  holds(updateId: Uint8Array): boolean {
    const id = hex(updateId);
    return this.#sum.counted.has(id) || this.#shared?.others.has(id) === true;
  }

  refusalOfHeader(header: UpdateHeader): Refusal | undefined {
    const { asynchronous } = this.#strategy;
    const { signer } = this.#world;
    return refusalOf(header, {
      state: this.#state,
      config: this.config,
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
      const { agentId } = header;
      this.#world.fleet.setReady(agentId, true);
      await this.#step({ type: 'UpdateReceived', nowMs: this.#world.nowMs(), ...updateOf(header) });
      // Without rounds its place is somebody else's now.
      if (this.#strategy.asynchronous !== undefined) await this.#step(this.#tick());
      return { accepted: true };
    });
  }

  refuse(header: UpdateHeader, refusal: Refusal): Promise<Submission> {
    return this.#enqueue(() => this.#refuse(header, stillRefused(this, header, refusal)));
  }

  addBytes(direction: 'up' | 'down', bytes: number): void {
    if (direction === 'up') this.#counters.bytesUp += bytes;
    else this.#counters.bytesDown += bytes;
  }

  get isRunning(): boolean {
    return this.#taskState === 'running';
  }

  /** Whether it may publish a version: it runs, or its last round before the pause is still open. */
  get isBusy(): boolean {
    return this.isRunning || this.#state.phase !== 'Idle';
  }

  status(): TaskStatus {
    const { updatesAccepted, updatesRejected, rejectedByReason, bytesUp, bytesDown, roundsAbandoned, metrics } =
      this.#counters;
    const state = this.#state;
    const accepted = state.phase === 'Idle' ? 0 : state.accepted.length;
    const counts = Object.entries(rejectedByReason).map(([reason, count]) => [reason, BigInt(count)] as const);
    return create(TaskStatusSchema, {
      task: this.task,
      model: this.config.model,
      state: this.#taskState,
      phase: state.phase,
      round: BigInt(state.round),
      roundsMax: BigInt(this.config.rounds),
      version: this.#base.manifest.version,
      cohort: state.phase === 'Collecting' ? state.cohort.length : accepted,
      accepted,
      updatesAccepted: BigInt(updatesAccepted + accepted),
      updatesRejected: BigInt(updatesRejected),
      rejectedByReason: Object.fromEntries(counts),
      bytesUp: BigInt(bytesUp),
      bytesDown: BigInt(bytesDown),
      agentsOnline: this.#world.fleet.onlineFor(this.task),
      waiting: this.#waiting(),
      strategy: this.#strategy.name,
      metrics,
      roundsAbandoned: BigInt(roundsAbandoned),
      configJson: this.#configJson,
    });
  }

  /** Resolves when what was asked before is done. */
  settled(): Promise<void> {
    return this.#enqueue(async () => {});
  }

  /** Ends what is under way. Of an open round its state is left, and where others share the work, the part of the sum. */
  async close(): Promise<void> {
    await this.checkpoint();
    await this.#sum.close();
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
    this.#state = step(state, { type: 'Recovered', nowMs: this.#world.nowMs() }, this.#policy).state;
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
    // A round that is open goes on when its task is paused, and nobody more is invited.
    const ready = this.#taskState === 'running' && this.#mayInvite ? this.#world.fleet.readyFor(this.task) : [];
    return { type: 'Tick', nowMs: this.#world.nowMs(), ready };
  }

  /** An open round asks nobody more; without rounds there is always a place for somebody. */
  get #mayInvite(): boolean {
    return this.#state.phase === 'Idle' || this.#strategy.asynchronous !== undefined;
  }

  async #step(event: RoundEvent): Promise<void> {
    if (this.#taskState !== 'running' && event.type === 'Tick' && this.#state.phase === 'Idle') return;
    const { state, effects } = step(this.#state, event, this.#policy);
    if (state === this.#state && effects.length === 0) return;
    this.#state = state;
    for (const effect of effects) await this.#perform(effect);
    this.#world.changed(this.task);
  }

  async #perform(effect: RoundEffect): Promise<void> {
    switch (effect.type) {
      case 'Invite':
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
        await this.#save(this.#state);
        return this.#world.log(`${this.task}: finished after ${this.#state.published} rounds`);
    }
  }

  #startSum(): void {
    this.#sum.reset();
    this.#shared?.reset();
  }

  #invite(cohort: readonly string[]): void {
    const state = this.#state;
    invariant(state.phase === 'Collecting', 'agents are invited while a round collects');
    for (const agentId of cohort) {
      this.#world.fleet.setReady(agentId, false);
      const leftMs = trainingEndMs(state, agentId) - this.#world.nowMs();
      const { message, bytes } = this.#invitations.of(agentId, state, this.#base, leftMs);
      this.addBytes('down', bytes);
      this.#world.fleet.send(agentId, message);
    }
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
    this.#counters.updatesRejected++;
    this.#counters.rejectedByReason[refusal] = (this.#counters.rejectedByReason[refusal] ?? 0) + 1;
    this.#world.changed(this.task);
    if (!isFinal(refusal)) return { refusal };
    const { agentId, round } = updateOf(header);
    const receipt = rejectedReceipt(this.#world.signer, { ...header, round }, refusal);
    const ended = await this.#end(agentId, receipt);
    if (ended === 'held') return { accepted: true };
    if (ended !== 'refused') return ended;
    await this.#step({ type: 'AgentOut', nowMs: this.#world.nowMs(), agentId, round });
    return { refusal, receipt };
  }

  /** What a version is made of: all that was taken, also by others. Undefined where too little of it is left. */
  async #collect(
    accepted: readonly AcceptedUpdate[],
  ): Promise<ReadonlyMap<string, Counted & { agentId: string }> | undefined> {
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
    const all = await this.#shared.collect(this.#key, this.#policy.cohortMin);
    if (all.size >= this.#policy.cohortMin) return all;
    const updateIds = accepted.map(({ updateId }) => updateId).filter((id) => !all.has(id));
    await this.#step({ type: 'Withdrawn', nowMs: this.#world.nowMs(), updateIds });
    return undefined;
  }

  /** Version, manifest, blobs, receipts and the machine's next state in one transaction; only then is anybody told. */
  async #publish(accepted: readonly AcceptedUpdate[]): Promise<void> {
    const { registry, signer, fleet, nowMs, dateMs } = this.#world;
    const { round } = this.#state;
    const collected = await this.#collect(accepted);
    if (collected === undefined) return;
    const means = meansOf(collected);
    const base = { weights: this.#base.weights, memory: this.#memory() };
    const { improvement, weights } = await this.#sum.combine(collected, base);
    const contributions = blobOf(contributionList(weights));
    const next = registry.child(this.#base, {
      model: this.config.model,
      ...improvement,
      manifest: {
        task: this.task,
        round: BigInt(round),
        strategy: this.#strategy.name,
        totalWeight: BigInt([...weights.values()].reduce((total, weight) => total + weight, 0)),
        contributionsDigest: contributions.digest,
        metrics: means,
        createdMs: BigInt(dateMs()),
      },
    });
    const retained = this.#sum.retained(collected.keys());
    const receipts = [...collected].map(([updateId, { agentId }]) => {
      const subject = { updateId: fromHex(updateId), task: this.task, round };
      return { agentId, record: committedReceipt(signer, subject, next.version.version) };
    });
    const after = step(
      this.#state,
      { type: 'Published', nowMs: nowMs(), version: next.version.version },
      this.#policy,
    ).state;
    const before = { ...this.#counters };
    Object.assign(this.#counters, { updatesAccepted: before.updatesAccepted + collected.size, metrics: means });
    try {
      await this.#save(after, {
        version: next.version,
        blobs: [...next.blobs, contributions],
        receipts: receipts.map(({ record }) => record),
        round: { task: this.task, round: after.round, open: after.phase === 'Collecting' },
        ...(retained === undefined ? {} : { retained }),
      });
    } catch (error) {
      Object.assign(this.#counters, before);
      throw error;
    }
    this.#state = after;
    this.#base = next.open;
    this.#startSum();
    this.#world.announce(this.config.model, next.open.signed);
    for (const { agentId, record } of receipts) fleet.send(agentId, receiptMessage(signer, record));
    this.#world.log(
      `${this.task}: round ${round} published version ${next.version.version} from ${collected.size} updates`,
    );
    await this.#step(this.#tick());
  }

  /** Another task's memory, of another strategy perhaps, would be no help. */
  #memory(): readonly Float32Array[] {
    return this.#base.manifest.task === this.task ? this.#base.memory : [];
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

  #waiting(): string {
    const state = this.#state;
    if (this.#taskState !== 'running') return '';
    if (state.phase === 'Idle') {
      const ready = this.#world.fleet.readyFor(this.task).length;
      return ready < this.config.cohort.min
        ? `waiting for agents: ${ready} of at least ${this.config.cohort.min} are ready`
        : '';
    }
    if (state.phase === 'Publishing') return '';
    const { asynchronous } = this.#strategy;
    if (asynchronous !== undefined) {
      const missing = asynchronous.bufferSize - state.accepted.length;
      const { length: training } = Object.keys(state.training ?? {});
      const who = training === 1 ? '1 agent is' : `${training} agents are`;
      return `waiting for ${missing} of ${asynchronous.bufferSize} updates: ${who} training`;
    }
    const missing = awaited(state);
    const [first] = missing;
    if (first === undefined) return '';
    const seenMs = this.#world.fleet.seenMs(first);
    const seen =
      seenMs === undefined ? 'not seen yet' : `seen ${Math.round((this.#world.nowMs() - seenMs) / 1000)} s ago`;
    return `waiting for ${missing.length} of ${state.cohort.length}: ${first} ${this.#world.fleet.isOnline(first) ? 'is training' : seen}`;
  }
}

/** Without what is off: a coordinator of the version before, which shares the database, does not know it. */
function written({ retainUpdates, ...config }: TaskConfig): object {
  return retainUpdates === 0 ? config : { ...config, retainUpdates };
}

/** Sorted by id, so that the list does not tell who was first. */
function contributionList(weights: ReadonlyMap<string, number>): Uint8Array {
  const accepted = [...weights]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([id, weight]) => ({ updateId: Buffer.from(id, 'hex'), weight: BigInt(weight) }));
  return toBinary(ContributionListSchema, create(ContributionListSchema, { accepted }));
}
