import {
  AdminService,
  ModelService,
  type AgentStatus,
  type ChannelStatus,
  type ClientReport,
  type FleetStatus,
  type GetUpdateStatusResponse,
  type Hello,
  type KeptCandidate,
  type ModelSummary,
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
import { ChannelReads } from '../channels/channel-reads.ts';
import type { Promotion } from '../channels/channel.ts';
import type { ChannelName } from '../channels/channels.ts';
import { evenTime, sleep, type Clock } from '../clock.ts';
import { AgentSessions } from '../driver/agent-sessions.ts';
import { Fleet } from '../driver/fleet.ts';
import { CHECKPOINT_MS } from '../driver/neighbours.ts';
import { once, type Once } from '../driver/once.ts';
import type { Folding, Part } from '../driver/parts.ts';
import { rejectedReceipt } from '../driver/receipts.ts';
import type { Signer } from '../identity/signer.ts';
import { RegistryReads } from '../registry/registry.ts';
import { Releases } from '../registry/releases.ts';
import type { ReportCounts } from '../reports/fleet-reports.ts';
import {
  ServiceError,
  type AgentSession,
  type AgentSink,
  type BlobPart,
  type CoordinatorService,
  type KeptVersions,
  type RolledBack,
} from '../service.ts';
import type { Shares } from '../store/shares.ts';
import type { StoreReads } from '../store/store.ts';
import type { VariantPolicy } from '../variants/forms.ts';
import type { VariantReport } from '../variants/variants.ts';
import { FollowerTask, type FollowerWorld } from './follower-task.ts';
import { LeaderClient } from './leader-client.ts';

/** Hints of changes get lost, so the rows are looked at this often too. */
const LOOK_MS = 500;
/** How soon the leader hears of this replica's agents. */
const TELL_MS = 50;
/** How often a watched task is asked for at the leader. */
const WATCH_MS = 500;

export interface FollowerOptions {
  store: StoreReads;
  shares: Shares;
  signer: Signer;
  spoolDir: string;
  clock: Clock;
  log(line: string): void;
  /** Nobody may go on from what went wrong: the process is to end. */
  onFatal(error: Error): void;
}

/** A coordinator that does not lead: takes agents, folds their updates, serves models, and hands on what only the leader may do. */
export class Follower implements CoordinatorService {
  readonly #options: FollowerOptions;
  readonly #fleet = new Fleet();
  readonly #world: FollowerWorld;
  readonly #tasks = new Map<string, FollowerTask>();
  readonly #sessions: AgentSessions;
  readonly #releases: Releases;
  readonly #channels: ChannelReads;
  readonly #leader: LeaderClient;
  readonly #stops: (() => void)[] = [];
  readonly #look: Once;
  readonly #work: readonly Once[];
  /** Digests of the newest versions that watchers were told of. */
  readonly #announced = new Map<string, string>();
  #undecodable = 0;
  #isClosed = false;

  constructor(options: FollowerOptions) {
    const { store, shares, signer, spoolDir, clock, log, onFatal } = options;
    this.#options = options;
    const registry = new RegistryReads(store, signer.publicKey);
    const nowMs = evenTime(clock);
    this.#world = {
      store,
      shares,
      registry,
      signer,
      fleet: this.#fleet,
      spoolDir,
      nowMs,
      monotonicMs: () => clock.monotonicMs(),
      sleep: (ms) => sleep(clock, ms),
      failed: onFatal,
    };
    this.#releases = new Releases(store, registry, log);
    // What reports say is the leader's to know.
    this.#channels = new ChannelReads(store, signer.publicKey, {
      verdictOn: () => ({ is: 'unknown', why: 'the coordinator that leads knows' }),
      log,
    });
    this.#leader = new LeaderClient(() => shares.leaderAddress());
    this.#sessions = new AgentSessions({
      signer,
      fleet: this.#fleet,
      spoolDir,
      nowMs,
      log,
      tasks: () => (this.#isClosed ? [] : this.#tasks.values()),
      task: (name) => this.#tasks.get(name),
      receipt: (updateId) => store.receipt(updateId),
      ofNoTask: async ({ updateId, task, round }) => {
        const known = await store.receipt(updateId);
        if (known !== undefined) return { ended: known };
        // A task that was made a moment ago is there the next time.
        await this.#look.run();
        if (this.#tasks.has(task)) throw new ServiceError('unavailable', 'the task is new: offer the update again');
        const receipt = rejectedReceipt(signer, { updateId, task, round: Number(round) }, 'unknown-task');
        const refused = await shares.refuse({ task, round: 0 }, '', receipt);
        if (refused === 'refused') return { ended: receipt };
        if (typeof refused === 'string')
          throw new ServiceError('unavailable', 'the task is new: offer the update again');
        return { ended: refused };
      },
      refusesUploads: () => undefined,
    });
    this.#look = once(() => this.#lookAtAll(), onFatal);
    const tell = once(async () => {
      const changes = this.#fleet.takeChanges();
      if (changes.size > 0) await shares.setMembers(changes);
    }, onFatal);
    const checkpoint = once(async () => {
      for (const task of this.#tasks.values()) await task.checkpoint();
    }, onFatal);
    this.#stops.push(
      shares.onChange(({ kind, task }) => {
        if (kind === 'task') void this.#look.run();
        if (kind === 'closing')
          this.#tasks
            .get(task)
            ?.checkpoint()
            .catch(() => {});
      }),
      clock.every(LOOK_MS, () => void this.#look.run()),
      clock.every(LOOK_MS, () => this.#sessions.tick()),
      clock.every(TELL_MS, () => void tell.run()),
      clock.every(CHECKPOINT_MS, () => void checkpoint.run()),
    );
    this.#work = [this.#look, tell, checkpoint];
    void shares.fenced.then(onFatal);
  }

  get publicKey(): Uint8Array {
    return this.#options.signer.publicKey;
  }

  /** Reads the tasks as they are. */
  async recover(): Promise<void> {
    await this.#look.run();
  }

  async #lookAtAll(): Promise<void> {
    if (this.#isClosed) return;
    const { store, shares } = this.#options;
    for (const record of await store.tasks()) {
      const known = this.#tasks.get(record.task);
      if (known !== undefined) await known.follow(record);
      else this.#tasks.set(record.task, await FollowerTask.open(this.#world, record));
      // The hint that a round closes may have been lost.
      if ((await shares.round(record.task))?.isOpen === false) await this.#tasks.get(record.task)?.checkpoint();
    }
    for (const model of this.#releases.watched()) await this.#announce(model);
    await this.#channels.look();
  }

  async #announce(model: string): Promise<void> {
    const newest = await this.#options.store.newestVersion(model);
    if (newest === undefined) return;
    const digest = Buffer.from(newest.digest).toString('hex');
    const before = this.#announced.get(model);
    this.#announced.set(model, digest);
    if (before !== undefined && before !== digest) {
      this.#releases.announce(model, this.#world.registry.toWire(newest));
    }
  }

  connectAgent(hello: Hello, sink: AgentSink): AgentSession {
    if (this.#isClosed) throw new ServiceError('unavailable', 'this coordinator is ending: try again');
    return this.#sessions.connect(hello, sink);
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

  /** Who listens to all releases tells them to everybody, and that is the leader's to do. */
  watchReleases(): () => void {
    return () => {};
  }

  async importModel(model: string, onnx: Uint8Array): Promise<SignedManifest> {
    return given((await this.#leader.importModel(model, onnx)).release);
  }

  listModels(): Promise<ModelSummary[]> {
    return this.#releases.listModels();
  }

  listVersions(model: string): Promise<SignedManifest[]> {
    return this.#releases.listVersions(model);
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

  async pinVersion(model: string, version: number, pinned: boolean): Promise<number> {
    const request = { model, version: BigInt(version), pinned };
    return Number((await this.#leader.unary(AdminService.method.pinVersion, request)).version);
  }

  async rollbackModel(model: string, version: number): Promise<RolledBack> {
    const request = { model, version: BigInt(version) };
    const { release, task } = await this.#leader.unary(AdminService.method.rollbackModel, request);
    return { release: given(release), task };
  }

  getChannel(model: string, channel: string): Promise<SignedChannel> {
    return this.#channels.get(model, channel);
  }

  watchChannel(model: string, channel: string, onRecord: (record: SignedChannel) => void): () => void {
    return this.#channels.watch(model, channel, onRecord);
  }

  /** Of all channels the leader tells, as of all releases. */
  watchChannels(): () => void {
    return () => {};
  }

  async listChannels(model: string): Promise<ChannelStatus[]> {
    return (await this.#leader.unary(AdminService.method.listChannels, { model })).channels;
  }

  async promoteVersion(of: ChannelName, promotion: Promotion): Promise<ChannelStatus> {
    const { version, percent = 0, cohorts, stages, everyMs, ...rest } = promotion;
    const numbers = { version: BigInt(version), percent, everyMs: BigInt(everyMs) };
    const request = { ...of, ...rest, ...numbers, cohorts: [...cohorts], stages: [...stages] };
    return given((await this.#leader.unary(AdminService.method.promoteVersion, request)).status);
  }

  async holdChannel(of: ChannelName, reason: string | undefined): Promise<ChannelStatus> {
    const request = { ...of, held: reason !== undefined, reason: reason ?? '' };
    return given((await this.#leader.unary(AdminService.method.holdChannel, request)).status);
  }

  async rollbackChannel(of: ChannelName, version: number | undefined): Promise<ChannelStatus> {
    const request = { ...of, version: BigInt(version ?? 0) };
    return given((await this.#leader.unary(AdminService.method.rollbackChannel, request)).status);
  }

  /** The leader decides by them: it has them, or the client is to say so again. */
  async reportUse(reports: readonly ClientReport[]): Promise<number> {
    return (await this.#leader.unary(ModelService.method.reportUse, { reports: [...reports] })).nextAfterMs;
  }

  async getFleets(model: string): Promise<FleetStatus[]> {
    return (await this.#leader.unary(AdminService.method.getFleet, { model })).fleets;
  }

  /** They are the leader's to count. */
  get reportCounts(): ReportCounts {
    return { taken: 0, again: 0, full: 0, refused: 0 };
  }

  getVariants(model: string, version: number): Promise<SignedVariantList | undefined> {
    return this.#world.registry.variants(model, version);
  }

  async makeVariants(model: string, version: number, policy: VariantPolicy): Promise<SignedVariantList> {
    const request = { model, version: BigInt(version), ...policy, forms: [...policy.forms] };
    return given((await this.#leader.unary(AdminService.method.makeVariants, request, { isLong: true })).variants);
  }

  async reportVariant({ version, measurement, ...report }: VariantReport): Promise<SignedVariantList> {
    const request = { ...report, version: BigInt(version), ...(measurement === undefined ? {} : { measurement }) };
    return given((await this.#leader.unary(AdminService.method.reportVariant, request)).variants);
  }

  async createTask(task: string, configJson: string): Promise<TaskStatus> {
    return given((await this.#leader.unary(AdminService.method.createTask, { task, configJson })).status);
  }

  async startTask(task: string): Promise<TaskStatus> {
    return given((await this.#leader.unary(AdminService.method.startTask, { task })).status);
  }

  async pauseTask(task: string): Promise<TaskStatus> {
    return given((await this.#leader.unary(AdminService.method.pauseTask, { task })).status);
  }

  async getTask(task: string): Promise<TaskStatus> {
    return given((await this.#leader.unary(AdminService.method.getTask, { task })).status);
  }

  async listTasks(): Promise<TaskStatus[]> {
    return (await this.#leader.unary(AdminService.method.listTasks, {})).tasks;
  }

  watchTask(task: string, onStatus: (status: TaskStatus) => void): () => void {
    const { clock, log } = this.#options;
    const ask = once(
      async () => onStatus(await this.getTask(task)),
      // While nobody leads there is nothing to tell.
      (error) => log(`watch of task ${task}: ${error.message}`),
    );
    void ask.run();
    const stop = clock.every(WATCH_MS, () => void ask.run());
    return () => {
      stop();
      void ask.stop();
    };
  }

  async listAgents(): Promise<AgentStatus[]> {
    return (await this.#leader.unary(AdminService.method.listAgents, {})).agents;
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

  get diskIsFull(): boolean {
    return false;
  }

  advertise(address: string): Promise<void> {
    return this.#options.shares.advertise(address);
  }

  /** Ends the sessions and puts what was taken into the rows; the store stays open. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const stop of this.#stops) stop();
    await Promise.all(this.#work.map((one) => one.stop()));
    this.#fleet.closeAll('the coordinator is stopping');
    this.#leader.close();
    for (const task of this.#tasks.values()) await task.close();
  }
}

function given<T>(part: T | undefined): T {
  if (part === undefined) throw new ServiceError('unavailable', 'the leader answered without a status: try again');
  return part;
}
