import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { CodecError, ConfigError, NotTrainableError, OnnxError } from '@commonweight/core';
import {
  isName,
  ManifestSchema,
  type AgentStatus,
  type ChannelStatus,
  type ClientReport,
  type FleetStatus,
  type GetUpdateStatusResponse,
  type Hello,
  type KeptCandidate,
  type ModelSummary,
  type OfferedUpdate,
  type PartHeader,
  type SignedChannel,
  type SignedManifest,
  type SignedResult,
  type SignedVariantList,
  type SubmitPartResponse,
  type SubmitUpdateResponse,
  type TaskStatus,
  type UpdateHeader,
} from '@commonweight/proto';
import { ChannelReads } from './channels/channel-reads.ts';
import type { ChannelState, Promotion } from './channels/channel.ts';
import { CHANNEL_LIFETIME_MS, Channels, type ChannelName } from './channels/channels.ts';
import { verdictOver, type Evidence, type Verdict } from './channels/guard.ts';
import { evenTime, sleep, systemClock, type Clock } from './clock.ts';
import { AgentSessions } from './driver/agent-sessions.ts';
import { Fleet } from './driver/fleet.ts';
import type { Folding, Part } from './driver/parts.ts';
import { rejectedReceipt } from './driver/receipts.ts';
import { Neighbours } from './driver/neighbours.ts';
import { TaskDriver, type DriverWorld } from './driver/task-driver.ts';
import type { Offered } from './driver/task-work.ts';
import { openSigner, type Signer } from './identity/signer.ts';
import { Collector, type KeepVersions } from './registry/collector.ts';
import { Registry } from './registry/registry.ts';
import { watch } from './registry/announcements.ts';
import { Releases } from './registry/releases.ts';
import { Replica } from './replica/replica.ts';
import { checkedReports } from './reports/checked-report.ts';
import { FleetReports, type ReportCounts } from './reports/fleet-reports.ts';
import {
  ServiceError,
  type AgentSession,
  type AgentSink,
  type BlobPart,
  type CoordinatorService,
  type KeptVersions,
  type RolledBack,
} from './service.ts';
import { parsePostgresUrl, type PostgresAddress } from './store/postgres-address.ts';
import { PostgresReads } from './store/postgres-store.ts';
import { startBackups, type BackupSchedule } from './store/scheduled-backups.ts';
import { SqliteStore } from './store/sqlite-store.ts';
import { StoreError, type Commit, type Store } from './store/store.ts';
import { AgentsOfModel } from './variants/agents-of-model.ts';
import { Calibrations } from './variants/calibrations.ts';
import type { VariantPolicy } from './variants/forms.ts';
import { Inquiries } from './variants/inquiries.ts';
import { Measurements } from './variants/measurements.ts';
import { Variants, type VariantReport } from './variants/variants.ts';

export interface CoordinatorOptions {
  /** Folder of the database and the signing key. */
  dataDir: string;
  /** Copies of the data folder, made while it is in use. */
  backups?: BackupSchedule;
  /** The most that the database may take; without it, what the disk has. */
  diskBytesMax?: number;
  /** `postgres://…`: the database is there, and `dataDir` has the signing key alone. */
  postgres?: string;
  /** Another coordinator leads that database, and this one shares its work. */
  onFollowing?: (leader: string) => void;
  /** This one leads that database from now on. */
  onLeading?: (epoch: number) => void;
  /** Agents that may be there at once; more are told when to come back. */
  sessionsMax?: number;
  /** How many versions of each model are kept whole; without it, all. */
  keepVersions?: KeepVersions;
  /** How long what a channel says holds, in milliseconds; it is said anew when half of that is over. */
  channelLifetimeMs?: number;
  /** Over how long what clients report is summed up, in milliseconds; six of these count. */
  reportWindowMs?: number;
  clock?: Clock;
  /** A commit failed and nobody may go on: the process is to end, and a restart goes on from what is saved. By default it does. */
  onFatal?: (error: Error) => void;
  log?: (line: string) => void;
}

/** How long uploads are refused after the disk was found full. */
const FULL_RETRY_MS = 5_000;
/** How often deadlines are looked at. */
const TICK_MS = 250;
/** How often channels are looked at. */
const CHANNELS_MS = 1_000;
/** How often what clients report is put into the store. */
const SNAPSHOT_MS = 60_000;

/** What a coordinator over a given store may be told. */
type ServiceOptions = Pick<
  CoordinatorOptions,
  'clock' | 'log' | 'onFatal' | 'sessionsMax' | 'keepVersions' | 'channelLifetimeMs' | 'reportWindowMs'
> & {
  /** Folder for uploads under way, and for the updates of rounds whose strategy has to see them all. */
  spoolDir: string;
  onClose?: () => void;
};

/**
 * Opens a data folder or a database and goes on with what was under way in it; where another coordinator leads the database, this
 * one shares its work. Throws StoreError where it cannot be used.
 */
export async function openCoordinator(options: CoordinatorOptions): Promise<CoordinatorService> {
  const { dataDir, diskBytesMax, backups, postgres, clock = systemClock, log = () => {} } = options;
  const spoolDir = join(dataDir, 'spool');
  if (postgres !== undefined) return openReplica(parsePostgresUrl(postgres), spoolDir, options);
  const store = SqliteStore.open(dataDir);
  if (diskBytesMax !== undefined) store.limitBytes(diskBytesMax);
  const onClose = backups === undefined ? () => {} : startBackups(store, dataDir, backups, { clock, log });
  return recovered(new Coordinator(store, openSigner(dataDir), { ...options, spoolDir, onClose }), spoolDir);
}

async function openReplica(
  address: PostgresAddress,
  spoolDir: string,
  options: CoordinatorOptions,
): Promise<CoordinatorService> {
  const { dataDir, diskBytesMax, backups, onFatal = throwLater } = options;
  if (diskBytesMax !== undefined) {
    throw new ConfigError(
      '--disk-max is for the database in --data: limit the disk of PostgreSQL itself',
      '--disk-max',
    );
  }
  if (backups !== undefined) {
    throw new ConfigError('--backup is for the database in --data: back PostgreSQL up with its own tools', '--backup');
  }
  mkdirSync(dataDir, { recursive: true });
  const signer = openSigner(dataDir);
  const reads = await PostgresReads.open(address, signer.publicKey);
  return Replica.open(reads, {
    ...options,
    signer,
    spoolDir,
    holder: `process ${process.pid} on ${hostname()}`,
    onFatal,
    lead: (store) => recovered(new Coordinator(store, signer, { ...options, spoolDir }), spoolDir),
  });
}

async function recovered(coordinator: Coordinator, spoolDir: string): Promise<Coordinator> {
  try {
    // What another process spooled is asked for again; the store's lease says that it runs no more.
    await rm(spoolDir, { recursive: true, force: true });
    await coordinator.recover();
    return coordinator;
  } catch (error) {
    // Else its timers would keep the process, and with it the lease.
    await coordinator.close();
    throw error;
  }
}

/** The coordinator over a store; nothing of it knows where time, disk and network come from. */
export class Coordinator implements CoordinatorService {
  readonly #store: Store;
  readonly #signer: Signer;
  readonly #registry: Registry;
  readonly #releases: Releases;
  readonly #variants: Variants;
  readonly #channelReads: ChannelReads;
  readonly #channels: Channels;
  readonly #reports: FleetReports;
  readonly #inquiries: Inquiries;
  readonly #fleet = new Fleet();
  readonly #sessions: AgentSessions;
  readonly #drivers = new Map<string, TaskDriver>();
  readonly #taskWatchers = new Map<string, Set<(status: TaskStatus) => void>>();
  readonly #nowMs: () => number;
  readonly #dateMs: () => number;
  readonly #world: DriverWorld;
  readonly #onFatal: (error: Error) => void;
  readonly #onClose: () => void;
  readonly #stopTicking: (() => void)[];
  readonly #neighbours: Neighbours | undefined;
  readonly #collector: Collector | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #fullUntilMs = 0;
  #undecodable = 0;
  #closed = false;

  constructor(
    store: Store,
    signer: Signer,
    {
      spoolDir,
      clock = systemClock,
      log = () => {},
      onFatal = throwLater,
      onClose = () => {},
      sessionsMax,
      keepVersions,
      channelLifetimeMs = CHANNEL_LIFETIME_MS,
      reportWindowMs,
    }: ServiceOptions,
  ) {
    const nowMs = evenTime(clock);
    this.#dateMs = () => clock.nowMs();
    this.#store = store;
    this.#signer = signer;
    this.#registry = new Registry(store, signer);
    this.#releases = new Releases(store, this.#registry, log);
    const agents = new AgentsOfModel(this.#fleet, () => this.#drivers.values());
    const { isTrained } = agents;
    this.#inquiries = new Inquiries({ clock, send: (agentId, message) => this.#fleet.send(agentId, message) });
    const inquiries = this.#inquiries;
    const calibrations = new Calibrations({ inquiries, log, isTrained, agentsFor: agents.training });
    const measurements = new Measurements({
      inquiries,
      log,
      evaluatorsFor: agents.evaluators,
      agentsFor: agents.measuring,
      examplesOf: agents.examplesOf,
    });
    this.#variants = new Variants({
      store,
      registry: this.#registry,
      signer,
      log,
      calibrate: (wish, signal) => calibrations.gather(wish, signal),
      measure: (wish, signal) => measurements.gather(wish, signal),
      isTrained,
      failed: (error) => this.#failed(error),
    });
    this.#reports = new FleetReports(reportWindowMs === undefined ? {} : { windowMs: reportWindowMs });
    const verdictOn = (state: ChannelState): Verdict => this.#verdictOn(state);
    this.#channelReads = new ChannelReads(store, signer.publicKey, { verdictOn, log });
    this.#channels = new Channels({
      store,
      signer,
      reads: this.#channelReads,
      lifetimeMs: channelLifetimeMs,
      // What is signed says when it expires, and apps look at their own clocks.
      nowMs: () => clock.nowMs(),
      verdictOn,
      begun: (model, version) => this.#reports.forget(model, version),
      log,
      failed: (error) => this.#failed(error),
    });
    this.#nowMs = nowMs;
    this.#onFatal = onFatal;
    this.#onClose = onClose;
    this.#world = {
      store,
      registry: this.#registry,
      signer,
      fleet: this.#fleet,
      spoolDir,
      nowMs,
      dateMs: this.#dateMs,
      monotonicMs: () => clock.monotonicMs(),
      sleep: (ms) => sleep(clock, ms),
      log,
      announce: (model, release) => {
        this.#releases.announce(model, release);
        this.#collector?.collect(model);
        for (const driver of this.#drivers.values()) {
          if (driver.config.model !== model) continue;
          this.#wantVariants(driver);
          // What went wrong was told by the driver.
          driver.versionCame().catch(() => {});
        }
      },
      failed: (error) => this.#failed(error),
      changed: (task) => this.#changed(task),
    };
    if (keepVersions !== undefined) {
      this.#collector = new Collector(store, keepVersions, { log, failed: (error) => this.#failed(error) });
    }
    this.#sessions = new AgentSessions({
      signer,
      fleet: this.#fleet,
      spoolDir,
      nowMs,
      log,
      ...(sessionsMax === undefined ? {} : { sessionsMax }),
      tasks: () => (this.#closed ? [] : this.#drivers.values()),
      task: (name) => this.#drivers.get(name),
      receipt: (updateId) => store.receipt(updateId),
      ofNoTask: (offered) => this.#ofNoTask(offered),
      inquiries,
      refusesUploads: () =>
        this.diskIsFull ? `the disk of the coordinator is full: try again in ${FULL_RETRY_MS / 1000} s` : undefined,
    });
    this.#stopTicking = [
      clock.every(TICK_MS, () => this.#tick()),
      clock.every(CHANNELS_MS, () => this.#lookAtChannels()),
      clock.every(SNAPSHOT_MS, () => void this.#keepReports()),
    ];
    void store.lease.lost.then((error) => this.#failed(error));
    if (store.shares !== undefined) {
      this.#neighbours = new Neighbours(store.shares, this.#fleet, {
        clock,
        log,
        tasks: () => (this.#closed ? [] : [...this.#drivers.values()]),
        failed: (error) => this.#failed(error),
      });
    }
  }

  get publicKey(): Uint8Array {
    return this.#signer.publicKey;
  }

  async recover(): Promise<void> {
    await this.#requireNewestEpoch();
    await this.#neighbours?.look();
    for (const record of await this.#store.tasks()) {
      this.#drivers.set(record.task, await TaskDriver.load(this.#world, record));
    }
    for (const driver of this.#drivers.values()) this.#wantVariants(driver);
    await this.#channels.recover();
    for (const { model, sumsJson } of await this.#store.reportSnapshots()) this.#reports.restore(model, sumsJson);
    // What was due when the last process ended, or by a policy that is new.
    const collector = this.#collector;
    if (collector !== undefined) for (const model of await this.#store.models()) collector.collect(model);
  }

  /**
   * A version of a later epoch than the lease's is of a leader that took the lease meanwhile; or else the lease is damaged, and two leaders
   * could have one epoch.
   */
  async #requireNewestEpoch(): Promise<void> {
    const { epoch } = this.#store.lease;
    for (const model of await this.#store.models()) {
      const newest = await this.#registry.newest(model);
      if (Number(newest.epoch) <= epoch) continue;
      // Refused where the lease is another's by now.
      await this.#store.commit({});
      throw new StoreError(
        `the lease says epoch ${epoch}, and version ${newest.version} of ${model} was published in epoch ${newest.epoch}: the database is damaged, restore a backup`,
      );
    }
  }

  connectAgent(hello: Hello, sink: AgentSink): AgentSession {
    if (this.#closed) throw new ServiceError('unavailable', 'this coordinator is ending: try again');
    return this.#sessions.connect(hello, sink);
  }

  async #ofNoTask({ updateId, task, round }: OfferedUpdate): Promise<Offered> {
    const known = await this.#store.receipt(updateId);
    if (known !== undefined) return { ended: known };
    const receipt = rejectedReceipt(this.#signer, { updateId, task, round: Number(round) }, 'unknown-task');
    await this.#commit({ receipts: [receipt] });
    return { ended: receipt };
  }

  async #commit(commit: Commit): Promise<void> {
    try {
      await this.#store.commit(commit);
    } catch (error) {
      this.#failed(error);
      throw error;
    }
  }

  /** A full disk is waited for; whatever else a commit fails of, nobody may go on from it. */
  #failed(error: unknown): void {
    if (!(error instanceof StoreError) || error.kind !== 'full') return this.#onFatal(error as Error);
    if (!this.diskIsFull) this.#world.log(error.message);
    this.#fullUntilMs = this.#nowMs() + FULL_RETRY_MS;
  }

  /** The disk was full a moment ago: nothing is begun that would need it. */
  get diskIsFull(): boolean {
    return this.#nowMs() < this.#fullUntilMs;
  }

  updateStatus(updateId: Uint8Array): Promise<GetUpdateStatusResponse> {
    return this.#sessions.updateStatus(updateId);
  }

  submitChunk(agentId: string, header: UpdateHeader, offset: number, data: Uint8Array): Promise<SubmitUpdateResponse> {
    return this.#sessions.submitChunk(agentId, header, offset, data);
  }

  folding(task: string, round: number): Folding | undefined {
    return this.#sessions.folding(task, round);
  }

  submitPart(header: PartHeader, part: Part): Promise<SubmitPartResponse> {
    return this.#sessions.submitPart(header, part);
  }

  readBlob(digest: Uint8Array, offset: number, lengthMax: number): Promise<BlobPart> {
    return this.#releases.readBlob(digest, offset, lengthMax);
  }

  getModel(model: string, version: number): Promise<SignedManifest> {
    return this.#releases.getModel(model, version);
  }

  watchModel(model: string, onRelease: (release: SignedManifest) => void): () => void {
    return this.#releases.watchModel(model, onRelease);
  }

  watchReleases(onRelease: (model: string, release: SignedManifest) => void): () => void {
    return this.#releases.watchReleases(onRelease);
  }

  listModels(): Promise<ModelSummary[]> {
    return this.#releases.listModels();
  }

  listVersions(model: string): Promise<SignedManifest[]> {
    return this.#releases.listVersions(model);
  }

  async importModel(model: string, onnx: Uint8Array): Promise<SignedManifest> {
    requireName('model', model);
    const release = await understandable(() => this.#registry.importModel(model, onnx, this.#dateMs())).catch(
      (error: unknown) => {
        if (error instanceof StoreError) this.#failed(error);
        throw error;
      },
    );
    this.#releases.announce(model, release);
    return release;
  }

  listCandidates(model: string): Promise<KeptCandidate[]> {
    return this.#releases.listCandidates(model);
  }

  listResults(of: { task: string } | { model: string }): Promise<SignedResult[]> {
    return this.#releases.listResults(of);
  }

  listKept(model: string): Promise<KeptVersions> {
    return this.#releases.listKept(model);
  }

  async pinVersion(model: string, version: number, isPinned: boolean): Promise<number> {
    const { manifest } = await this.#registry.release(model, version);
    const number = Number(fromBinary(ManifestSchema, manifest).version);
    try {
      await this.#store.commit({ pin: { model, version: number, isPinned } });
    } catch (cause) {
      if (cause instanceof StoreError && cause.kind === 'refused')
        throw new ServiceError('invalid', cause.message, { cause });
      this.#failed(cause);
      throw cause;
    }
    return number;
  }

  getChannel(model: string, channel: string): Promise<SignedChannel> {
    return this.#channelReads.get(model, channel);
  }

  watchChannel(model: string, channel: string, onRecord: (record: SignedChannel) => void): () => void {
    return this.#channelReads.watch(model, channel, onRecord);
  }

  watchChannels(onRecord: (model: string, channel: string, record: SignedChannel) => void): () => void {
    return this.#channelReads.watchAll(onRecord);
  }

  listChannels(model: string): Promise<ChannelStatus[]> {
    return this.#channelReads.list(model);
  }

  promoteVersion(of: ChannelName, promotion: Promotion): Promise<ChannelStatus> {
    return this.#channels.promote(of, promotion);
  }

  holdChannel(of: ChannelName, reason: string | undefined): Promise<ChannelStatus> {
    return this.#channels.hold(of, reason);
  }

  rollbackChannel(of: ChannelName, version: number | undefined): Promise<ChannelStatus> {
    return this.#channels.rollBack(of, version);
  }

  async reportUse(reports: readonly ClientReport[]): Promise<number> {
    try {
      for (const report of await checkedReports(reports, (model) => this.#newestOf(model)))
        this.#reports.take(report, this.#dateMs());
    } catch (error) {
      this.#reports.counts.refused += 1;
      throw error;
    }
    return this.#reports.nextAfterMs();
  }

  async #newestOf(model: string): Promise<number> {
    return (await this.#store.newestVersion(model))?.version ?? 0;
  }

  async getFleets(model: string): Promise<FleetStatus[]> {
    if (model !== '') await this.#registry.release(model, 0);
    const models = model === '' ? this.#reports.models() : [model];
    return models.map((each) => this.#reports.fleet(each, this.#dateMs()));
  }

  get reportCounts(): ReportCounts {
    return this.#reports.counts;
  }

  #verdictOn({ model, version, rollout }: ChannelState): Verdict {
    if (rollout === undefined) return { is: 'unknown', why: 'there is no rollout' };
    const said = (of: number): Evidence[] => this.#reports.evidence(model, of, this.#dateMs());
    return verdictOver(rollout.guard, said(version), said(rollout.version));
  }

  /** So that a restart does not forget how rollouts go. What a commit fails of is told by it. */
  async #keepReports(): Promise<void> {
    if (this.diskIsFull) return;
    const snapshots = this.#reports.snapshots(this.#dateMs());
    const reports = snapshots.map(({ model, text }) => ({ model, sumsJson: text }));
    if (reports.length > 0) await this.#commit({ reports }).catch(() => {});
  }

  getVariants(model: string, version: number): Promise<SignedVariantList | undefined> {
    return this.#registry.variants(model, version);
  }

  makeVariants(model: string, version: number, policy: VariantPolicy): Promise<SignedVariantList> {
    return understandable(() => this.#variants.make(model, version, policy));
  }

  reportVariant(report: VariantReport): Promise<SignedVariantList> {
    return this.#variants.report(report);
  }

  #wantVariants({ config }: TaskDriver): void {
    if ('variants' in config && config.variants !== undefined) this.#variants.want(config.model, config.variants);
  }

  async createTask(task: string, configJson: string): Promise<TaskStatus> {
    requireName('task', task);
    if (this.#drivers.has(task))
      throw new ServiceError('already-exists', `task "${task}" is there already: choose another name`);
    const driver = await understandable(() => TaskDriver.create(this.#world, task, configJson));
    this.#drivers.set(task, driver);
    this.#wantVariants(driver);
    return driver.status();
  }

  async startTask(task: string): Promise<TaskStatus> {
    return this.#oneByOne(async () => {
      const driver = this.#driver(task);
      const rival = this.#busyWith(driver.config.model);
      if (driver.publishes && rival !== undefined && rival !== driver) {
        const why = rival.isRunning
          ? `is improving ${driver.config.model} already: pause it first`
          : `is paused, and its last round is still open: wait until \`commonweight task show ${rival.task}\` says Idle`;
        throw new ServiceError('invalid', `task "${rival.task}" ${why}`);
      }
      await driver.start();
      return driver.status();
    });
  }

  async rollbackModel(model: string, version: number): Promise<RolledBack> {
    return this.#oneByOne(async () => {
      const driver = this.#busyWith(model);
      if (driver !== undefined) return { release: await driver.rollback(version), task: driver.task };
      const restored = await this.#registry.restored(model, version, this.#dateMs());
      await this.#commit({ version: restored.version });
      this.#world.announce(model, restored.open.signed);
      return { release: restored.open.signed, task: '' };
    });
  }

  /** The task that may publish versions of a model: there is one at most. */
  #busyWith(model: string): TaskDriver | undefined {
    return [...this.#drivers.values()].find((driver) => driver.isBusy && driver.config.model === model);
  }

  /** What decides which task may publish versions happens one after the other. */
  #oneByOne<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async pauseTask(task: string): Promise<TaskStatus> {
    const driver = this.#driver(task);
    await driver.pause();
    return driver.status();
  }

  async getTask(task: string): Promise<TaskStatus> {
    return this.#driver(task).status();
  }

  async listTasks(): Promise<TaskStatus[]> {
    return [...this.#drivers.values()].map((driver) => driver.status());
  }

  watchTask(task: string, onStatus: (status: TaskStatus) => void): () => void {
    onStatus(this.#driver(task).status());
    return watch(this.#taskWatchers, task, onStatus);
  }

  async listAgents(): Promise<AgentStatus[]> {
    return this.#fleet.list();
  }

  addBytes(direction: 'up' | 'down', task: string | undefined, bytes: number): void {
    this.#sessions.addBytes(direction, task, bytes);
  }

  addUndecodable(): void {
    this.#undecodable++;
  }

  get sentAway(): number {
    return this.#sessions.sentAway;
  }

  get undecodable(): number {
    return this.#undecodable;
  }

  async advertise(address: string): Promise<void> {
    await this.#store.shares?.advertise(address);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const stop of this.#stopTicking) stop();
    await this.#neighbours?.stop();
    this.#onClose();
    this.#fleet.closeAll('the coordinator is stopping');
    try {
      await this.#variants.close();
      await this.#channels.close();
      await this.#keepReports();
      this.#inquiries.close();
      for (const driver of this.#drivers.values()) await driver.close();
      await this.#collector?.close();
    } finally {
      await this.#store.close();
    }
  }

  #driver(task: string): TaskDriver {
    const driver = this.#drivers.get(task);
    if (driver === undefined)
      throw new ServiceError('not-found', `there is no task "${task.slice(0, 80)}": see \`commonweight task list\``);
    return driver;
  }

  #forDrivers(work: (driver: TaskDriver) => Promise<void>): void {
    if (this.#closed) return;
    // What went wrong was told by the driver, which went back to what the disk has.
    for (const driver of this.#drivers.values()) work(driver).catch(() => {});
  }

  #tick(): void {
    if (!this.#closed) this.#sessions.tick();
    if (this.diskIsFull) return;
    this.#forDrivers((driver) => (driver.isRunning ? driver.tick() : Promise.resolve()));
  }

  /** What went wrong was told; the next look tries again. */
  #lookAtChannels(): void {
    if (!this.#closed && !this.diskIsFull) this.#channels.look().catch(() => {});
  }

  #changed(task: string): void {
    const watchers = this.#taskWatchers.get(task);
    if (watchers === undefined || watchers.size === 0) return;
    const status = this.#driver(task).status();
    for (const onStatus of watchers) onStatus(status);
  }
}

/** Outside of all promises, so that nothing catches it. */
function throwLater(error: Error): void {
  setImmediate(() => {
    throw error;
  });
}

function requireName(kind: string, name: string): void {
  if (!isName(name))
    throw new ServiceError('invalid', `${kind} "${name.slice(0, 80)}" may have up to 64 letters, digits, - and _ only`);
}

/** What is wrong with what the caller gave, as the caller's error. */
async function understandable<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const theirs = [ConfigError, NotTrainableError, OnnxError, CodecError].some((kind) => cause instanceof kind);
    if (theirs) throw new ServiceError('invalid', (cause as Error).message, { cause });
    throw cause;
  }
}
