import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  buildTrainingGraph,
  encodings,
  ExactSum,
  gridFor,
  invariant,
  layoutOf,
  strategyFrom,
  weightsToBytes,
  type GridSpec,
  type Strategy,
} from '@commonweight/core';
import {
  AssignmentSchema,
  ContributionListSchema,
  encodingFromWire,
  encodingToWire,
  equalBytes,
  gridToWire,
  SessionResponseSchema,
  TaskStatusSchema,
  updateId as updateIdOf,
  WEIGHTS_INLINE_BYTES_MAX,
  type Assignment,
  type OfferedUpdate,
  type SessionResponse,
  type SignedManifest,
  type TaskStatus,
  type UpdateHeader,
} from '@commonweight/proto';
import type { Signer } from '../identity/signer.ts';
import { blobOf, sha256, type OpenVersion, type Registry } from '../registry/registry.ts';
import { parseTaskConfig, policyOf, type TaskConfig } from '../round/policy.ts';
import {
  firstState,
  step,
  verdictOn,
  type AcceptedUpdate,
  type RoundEffect,
  type RoundEvent,
  type RoundPolicy,
  type RoundState,
} from '../round/round.ts';
import { ServiceError } from '../service.ts';
import type { Commit, ReceiptRecord, Store, TaskRecord } from '../store/store.ts';
import { MetricMeans, noCounts, type Counters } from './counters.ts';
import type { Fleet } from './fleet.ts';
import { committedReceipt, receiptToWire, rejectedReceipt, type Refusal } from './receipts.ts';
import { runRule } from './run-rule.ts';
import { RoundSpool } from './spool.ts';

/** What a driver works with. */
export interface DriverWorld {
  store: Store;
  registry: Registry;
  signer: Signer;
  fleet: Fleet;
  /** Folder for what robust rules read; made when it is needed, and swept on start. */
  spoolDir: string;
  nowMs(): number;
  log(line: string): void;
  /** Tells watchers of a version that is committed. */
  announce(model: string, release: SignedManifest): void;
  /** A commit failed; the driver went back to what the disk has. */
  failed(error: unknown): void;
  /** The task's status is another now. */
  changed(task: string): void;
}

/** What became of an update. */
export type Submission = { accepted: true } | { refusal: Refusal; receipt: ReceiptRecord };

export type TaskState = 'paused' | 'running' | 'finished';

/**
 * Drives the rounds of one task: saves the machine's state, performs its effects, then answers. What happens to a task
 * happens one after the other. Opening and committing a round are saved; accepted updates are not, since their agents keep
 * them until the commit.
 */
export class TaskDriver {
  readonly task: string;
  readonly config: TaskConfig;
  readonly #world: DriverWorld;
  readonly #policy: RoundPolicy;
  readonly #strategy: Strategy;
  readonly #grid: GridSpec;
  readonly #configJson: string;
  readonly #counters: Counters;
  #taskState: TaskState;
  /** What the disk has. */
  #durable: { state: RoundState; taskState: TaskState };
  #state: RoundState;
  #base: OpenVersion;
  /** Judges every update, and is the mean where the strategy has no rule of its own. */
  #sum: ExactSum;
  readonly #spool: RoundSpool | undefined;
  #metrics = new MetricMeans();
  #weights = new Map<string, number>();
  #assignment: Assignment | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(world: DriverWorld, record: TaskRecord, config: TaskConfig, base: OpenVersion) {
    this.#world = world;
    this.task = record.task;
    this.config = config;
    this.#configJson = record.configJson;
    this.#policy = policyOf(config);
    this.#strategy = strategyFrom(config.strategy);
    this.#grid = gridFor({ ...config, cohortMax: config.cohort.max });
    this.#taskState = record.state as TaskState;
    this.#state = JSON.parse(record.roundJson) as RoundState;
    this.#durable = { state: this.#state, taskState: this.#taskState };
    this.#counters = JSON.parse(record.countersJson) as Counters;
    this.#base = base;
    this.#sum = new ExactSum(base.weights.length, this.#grid);
    if (this.#strategy.robust !== undefined) {
      // Names that differ only in case are one file on some systems.
      const path = join(world.spoolDir, `${Buffer.from(this.task).toString('hex')}.updates`);
      this.#spool = new RoundSpool(path, encodings[config.encoding].byteLength(base.weights.length));
    }
  }

  /** Makes a task, paused. Throws ConfigError or NotTrainableError where it cannot work. */
  static async create(world: DriverWorld, task: string, configJson: string): Promise<TaskDriver> {
    const config = parseTaskConfig(configJson);
    const base = await world.registry.open(config.model);
    const graph = await world.registry.graph(base.manifest);
    // Built once only to learn now, and not on an agent, whether the model can be trained so.
    buildTrainingGraph(graph, strategyFrom(config.strategy).instruct(config.plan));
    invariant(layoutOf(graph).length === base.weights.length, 'graph and weights of a version agree');
    const record: TaskRecord = {
      task,
      configJson: JSON.stringify(config),
      state: 'paused',
      roundJson: JSON.stringify(firstState(Number(base.manifest.version))),
      countersJson: JSON.stringify(noCounts()),
    };
    const driver = new TaskDriver(world, record, config, base);
    await world.store.commit({ task: record });
    return driver;
  }

  /** A task as the store has it: an open round goes on, and asks for its updates again. */
  static async load(world: DriverWorld, record: TaskRecord): Promise<TaskDriver> {
    const config = parseTaskConfig(record.configJson);
    const driver = new TaskDriver(world, record, config, await world.registry.open(config.model));
    await driver.event({ type: 'Recovered', nowMs: world.nowMs() });
    return driver;
  }

  start(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#taskState === 'finished') {
        throw new ServiceError('invalid', `task "${this.task}" is finished: create another one to train further`);
      }
      await this.#setState('running');
      await this.#step(this.#tick());
    });
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

  event(event: RoundEvent): Promise<void> {
    return this.#enqueue(() => this.#step(event));
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
      if (this.#awaits(agentId)) this.#invite([agentId]);
      else await this.#step(this.#tick());
    });
  }

  /** Whether a resent update would be taken. */
  wants(agentId: string, offered: OfferedUpdate): boolean {
    const update = {
      agentId,
      updateId: hex(offered.updateId),
      round: Number(offered.round),
      baseVersion: Number(offered.baseVersion),
    };
    return verdictOn(this.#state, update) === 'accepted';
  }

  holds(updateId: Uint8Array): boolean {
    return this.#weights.has(hex(updateId));
  }

  /** What can be said of an update before its bytes are here. */
  refusalOfHeader(header: UpdateHeader): Refusal | undefined {
    const verdict = verdictOn(this.#state, updateOf(header));
    if (verdict !== 'accepted') return verdict;
    if (encodingFromWire(header.encoding) !== this.config.encoding) return 'wrong-encoding';
    if (Number(header.payloadSize) !== encodings[this.config.encoding].byteLength(this.#base.weights.length))
      return 'wrong-size';
    const weight = Number(header.weight);
    return weight >= 1 && weight <= this.config.weightMax ? undefined : 'weight-out-of-range';
  }

  /** Folds an update into the sum, or refuses it for good. */
  submit(header: UpdateHeader, payload: Uint8Array): Promise<Submission> {
    return this.#enqueue(async () => {
      const refusal =
        this.refusalOfHeader(header) ?? this.#refusalOfBytes(header, payload) ?? (await this.#fold(header, payload));
      if (refusal !== undefined) return this.#refuse(header, refusal);
      const { agentId } = header;
      this.#world.fleet.setReady(agentId, true);
      await this.#step({ type: 'UpdateReceived', nowMs: this.#world.nowMs(), ...updateOf(header) });
      return { accepted: true };
    });
  }

  /** Refuses an update whose bytes were not even asked for. */
  refuse(header: UpdateHeader, refusal: Refusal): Promise<Submission> {
    return this.#enqueue(() => this.#refuse(header, refusal));
  }

  addBytes(direction: 'up' | 'down', bytes: number): void {
    if (direction === 'up') this.#counters.bytesUp += bytes;
    else this.#counters.bytesDown += bytes;
  }

  get isRunning(): boolean {
    return this.#taskState === 'running';
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

  /** Ends what is under way; nothing of an open round is left on the disk but its state. */
  async close(): Promise<void> {
    await this.settled();
    this.#spool?.clear();
    await this.#spool?.settled();
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work).catch((error: unknown) => {
      // A call that was wrong changed nothing.
      if (!(error instanceof ServiceError)) this.#takeBack(error);
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
  #takeBack(error: unknown): void {
    const { state, taskState } = this.#durable;
    this.#taskState = taskState;
    this.#state = step(state, { type: 'Recovered', nowMs: this.#world.nowMs() }, this.#policy).state;
    this.#startSum();
    this.#world.failed(error);
    this.#world.changed(this.task);
  }

  #tick(): RoundEvent {
    return { type: 'Tick', nowMs: this.#world.nowMs(), ready: this.#world.fleet.readyFor(this.task) };
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
        await this.#save(this.#state);
        this.#world.log(
          `${this.task}: round ${effect.round} invites ${effect.cohort.length} agents on version ${effect.version}`,
        );
        return this.#invite(effect.cohort);
      case 'Publish':
        return this.#publish(effect.round, effect.accepted);
      case 'AbandonRound':
        this.#counters.roundsAbandoned++;
        this.#startSum();
        await this.#save(this.#state);
        return this.#world.log(`${this.task}: round ${effect.round} abandoned: ${effect.reason}`);
      case 'Finish':
        this.#taskState = 'finished';
        await this.#save(this.#state);
        return this.#world.log(`${this.task}: finished after ${this.#state.published} rounds`);
    }
  }

  #startSum(): void {
    this.#sum.reset();
    this.#spool?.clear();
    this.#metrics = new MetricMeans();
    this.#weights = new Map();
    this.#assignment = undefined;
  }

  #awaits(agentId: string): boolean {
    const state = this.#state;
    if (state.phase !== 'Collecting' || !state.cohort.includes(agentId)) return false;
    return !state.accepted.some((update) => update.agentId === agentId);
  }

  #invite(cohort: readonly string[]): void {
    for (const agentId of cohort) {
      this.#world.fleet.setReady(agentId, false);
      const assignment = this.#assignmentFor(agentId);
      this.addBytes('down', assignment.weightsInline.length + (assignment.base?.manifest.length ?? 0));
      const message = { case: 'assignment', value: assignment } as const;
      this.#world.fleet.send(agentId, create(SessionResponseSchema, { message }));
    }
  }

  #assignmentFor(agentId: string): Assignment {
    const state = this.#state;
    invariant(state.phase === 'Collecting', 'agents are invited while a round collects');
    this.#assignment ??= this.#makeAssignment();
    const seed = Buffer.from(
      sha256(new TextEncoder().encode(`${this.config.seed} ${this.task} ${state.round} ${agentId}`)),
    );
    const deadlineInMs = BigInt(Math.max(0, state.deadlineMs - this.#world.nowMs()));
    return create(AssignmentSchema, { ...this.#assignment, seed: seed.readBigUInt64BE(), deadlineInMs });
  }

  #makeAssignment(): Assignment {
    const weights = weightsToBytes(this.#base.weights);
    return create(AssignmentSchema, {
      task: this.task,
      round: BigInt(this.#state.round),
      base: this.#base.signed,
      planJson: JSON.stringify(this.#strategy.instruct(this.config.plan)),
      encoding: encodingToWire(this.config.encoding),
      grid: gridToWire(this.#grid),
      ...(weights.length <= WEIGHTS_INLINE_BYTES_MAX ? { weightsInline: weights } : {}),
    });
  }

  #refusalOfBytes(header: UpdateHeader, payload: Uint8Array): Refusal | undefined {
    return equalBytes(sha256(payload), header.payloadDigest) ? undefined : 'digest-mismatch';
  }

  async #fold(header: UpdateHeader, payload: Uint8Array): Promise<Refusal | undefined> {
    const weight = this.#strategy.weigh(Number(header.weight), this.config.weightMax);
    const fault = this.#sum.add(this.config.encoding, payload, weight);
    if (fault !== undefined) return fault;
    await this.#spool?.append(hex(header.updateId), payload);
    this.#weights.set(hex(header.updateId), weight);
    this.#metrics.add(header.metrics, weight);
    return undefined;
  }

  async #refuse(header: UpdateHeader, refusal: Refusal): Promise<Submission> {
    const update = updateOf(header);
    const receipt = rejectedReceipt(this.#world.signer, { ...header, round: update.round }, refusal);
    this.#counters.updatesRejected++;
    this.#counters.rejectedByReason[refusal] = (this.#counters.rejectedByReason[refusal] ?? 0) + 1;
    if (isFinal(refusal)) {
      await this.#save(this.#state, { receipts: [receipt] });
      await this.#step({ type: 'AgentOut', nowMs: this.#world.nowMs(), agentId: update.agentId, round: update.round });
    }
    this.#world.changed(this.task);
    return { refusal, receipt };
  }

  /** Version, manifest, blobs, receipts and the machine's next state in one transaction; only then is anybody told. */
  async #publish(round: number, accepted: readonly AcceptedUpdate[]): Promise<void> {
    const { registry, signer, fleet, nowMs } = this.#world;
    const means = this.#metrics.means();
    const { delta, weights } = await this.#combine(accepted);
    const contributions = blobOf(contributionList(weights));
    const next = registry.child(this.#base, {
      model: this.config.model,
      ...this.#strategy.improve(this.#base.weights, delta, this.#memory()),
      manifest: {
        task: this.task,
        round: BigInt(round),
        strategy: this.#strategy.name,
        totalWeight: BigInt([...weights.values()].reduce((total, weight) => total + weight, 0)),
        contributionsDigest: contributions.digest,
        metrics: means,
        createdMs: BigInt(nowMs()),
      },
    });
    const receipts = accepted.map(({ agentId, updateId }) => ({
      agentId,
      record: committedReceipt(
        signer,
        { updateId: Buffer.from(updateId, 'hex'), task: this.task, round },
        next.version.version,
      ),
    }));
    const after = step(
      this.#state,
      { type: 'Published', nowMs: nowMs(), version: next.version.version },
      this.#policy,
    ).state;
    const before = { ...this.#counters };
    Object.assign(this.#counters, { updatesAccepted: before.updatesAccepted + accepted.length, metrics: means });
    try {
      await this.#save(after, {
        version: next.version,
        blobs: [...next.blobs, contributions],
        receipts: receipts.map(({ record }) => record),
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
      `${this.task}: round ${round} published version ${next.version.version} from ${accepted.length} updates`,
    );
    await this.#step(this.#tick());
  }

  /** Another task's memory, of another strategy perhaps, would be no help. */
  #memory(): readonly Float32Array[] {
    return this.#base.manifest.task === this.task ? this.#base.memory : [];
  }

  /** The one delta of the round, and how much each update counts in it: 0 where the rule left it out. */
  async #combine(
    accepted: readonly AcceptedUpdate[],
  ): Promise<{ delta: Float32Array; weights: ReadonlyMap<string, number> }> {
    if (this.#spool === undefined) return { delta: this.#sum.mean(), weights: this.#weights };
    const { slots, ...spooled } = this.#spool.round;
    // Sorted by id, so that the order of arrival cannot show.
    const ids = accepted.map(({ updateId }) => updateId).sort();
    const updates = ids.map((id) => {
      const [slot, weight] = [slots.get(id), this.#weights.get(id)];
      invariant(slot !== undefined && weight !== undefined, 'accepted updates are in the spool');
      return { id, slot, weight };
    });
    const { strategy, encoding } = this.config;
    const { delta, kept } = await runRule({
      ...spooled,
      strategy,
      encoding,
      grid: this.#grid,
      length: this.#base.weights.length,
      updates: updates.map(({ slot, weight }) => ({ slot, weight })),
      memory: this.#memory(),
    });
    const counts = updates.map(({ id, weight }, i) => [id, kept?.includes(i) === false ? 0 : weight] as const);
    return { delta, weights: new Map(counts) };
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
    const missing = state.cohort.filter((agentId) => this.#awaits(agentId));
    const [first] = missing;
    if (first === undefined) return '';
    const seenMs = this.#world.fleet.seenMs(first);
    const seen =
      seenMs === undefined ? 'not seen yet' : `seen ${Math.round((this.#world.nowMs() - seenMs) / 1000)} s ago`;
    return `waiting for ${missing.length} of ${state.cohort.length}: ${first} ${this.#world.fleet.isOnline(first) ? 'is training' : seen}`;
  }
}

/** Sorted by id, so that the list does not tell who was first. */
function contributionList(weights: ReadonlyMap<string, number>): Uint8Array {
  const accepted = [...weights]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([id, weight]) => ({ updateId: Buffer.from(id, 'hex'), weight: BigInt(weight) }));
  return toBinary(ContributionListSchema, create(ContributionListSchema, { accepted }));
}

export const receiptMessage = (signer: Signer, record: ReceiptRecord): SessionResponse =>
  create(SessionResponseSchema, { message: { case: 'receipt', value: receiptToWire(signer, record) } });

/**
 * Whether a refusal ends the update. A duplicate does not: the first delivery counts. Damaged bytes do not: the agent sends them
 * again. An id that its sender cannot have does not: it may be somebody else's.
 */
const isFinal = (refusal: Refusal): boolean => !['duplicate', 'digest-mismatch', 'wrong-id'].includes(refusal);

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

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const updateOf = ({ agentId, updateId, round, baseVersion }: UpdateHeader) => ({
  agentId,
  updateId: hex(updateId),
  round: Number(round),
  baseVersion: Number(baseVersion),
});
