import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { CodecError, ConfigError, NotTrainableError, OnnxError } from '@commonweight/core';
import {
  CHUNK_BYTES_MAX,
  GetUpdateStatusResponseSchema,
  isName,
  ModelSummarySchema,
  OFFER_UPDATES_MAX,
  SessionResponseSchema,
  SubmitUpdateResponseSchema,
  type AgentStatus,
  type GetUpdateStatusResponse,
  type Hello,
  type ModelSummary,
  type OfferedUpdate,
  type SessionRequest,
  type SignedManifest,
  type SubmitUpdateResponse,
  type TaskStatus,
  type UpdateHeader,
} from '@commonweight/proto';
import { systemClock, type Clock } from './clock.ts';
import { Fleet } from './driver/fleet.ts';
import { isCommitted, receiptToWire, rejectedReceipt } from './driver/receipts.ts';
import { hex, ownsId, receiptMessage, TaskDriver, type DriverWorld } from './driver/task-driver.ts';
import { Uploads } from './driver/uploads.ts';
import { openSigner, type Signer } from './identity/signer.ts';
import { parameters, Registry } from './registry/registry.ts';
import { ServiceError, type AgentSession, type AgentSink, type BlobPart, type CoordinatorService } from './service.ts';
import { parsePostgresUrl } from './store/postgres-address.ts';
import { PostgresStore } from './store/postgres-store.ts';
import { startBackups, type BackupSchedule } from './store/scheduled-backups.ts';
import { SqliteStore } from './store/sqlite-store.ts';
import { StoreError, type Commit, type Store } from './store/store.ts';

export interface CoordinatorOptions {
  /** Folder of the database and the signing key. */
  dataDir: string;
  /** Copies of the data folder, made while it is in use. */
  backups?: BackupSchedule;
  /** The most that the database may take; without it, what the disk has. */
  diskBytesMax?: number;
  /** `postgres://…`: the database is there, and `dataDir` has the signing key alone. */
  postgres?: string;
  /** Called where another coordinator leads that database, with who it is. */
  onWaiting?: (leader: string) => void;
  /** Ends the waiting. */
  signal?: AbortSignal;
  clock?: Clock;
  /** A commit failed and nobody may go on: the process is to end, and a restart goes on from what is saved. By default it does. */
  onFatal?: (error: Error) => void;
  log?: (line: string) => void;
}

/** How often agents show that they are there. */
const HEARTBEAT_MS = 5_000;
/** How long uploads are refused after the disk was found full. */
const FULL_RETRY_MS = 30_000;
/** How often deadlines are looked at. */
const TICK_MS = 250;

/** What a coordinator over a given store may be told. */
type ServiceOptions = Pick<CoordinatorOptions, 'clock' | 'log' | 'onFatal'> & {
  /** Folder for the updates of rounds whose strategy has to see them all. */
  spoolDir: string;
  onClose?: () => void;
};

/**
 * Opens a data folder or a database and goes on with what was under way in it; waits while another coordinator leads the
 * database. Throws StoreError where it cannot be used.
 */
export async function openCoordinator(options: CoordinatorOptions): Promise<CoordinatorService> {
  const { dataDir, backups, clock = systemClock, log = () => {} } = options;
  const { store, signer } = await openStore(options);
  const spoolDir = join(dataDir, 'spool');
  // What another process spooled is asked for again; the store's lease says that it runs no more.
  await rm(spoolDir, { recursive: true, force: true });
  const stopBackups =
    backups === undefined || !(store instanceof SqliteStore)
      ? undefined
      : startBackups(store, dataDir, backups, { clock, log });
  const coordinator = new Coordinator(store, signer, {
    ...options,
    spoolDir,
    ...(stopBackups === undefined ? {} : { onClose: stopBackups }),
  });
  try {
    await coordinator.recover();
  } catch (error) {
    // Else its timers would keep the process, and with it the lease.
    await coordinator.close();
    throw error;
  }
  return coordinator;
}

async function openStore(options: CoordinatorOptions): Promise<{ store: Store; signer: Signer }> {
  const { dataDir, diskBytesMax, postgres, onWaiting = () => {}, signal } = options;
  if (postgres === undefined) {
    const store = SqliteStore.open(dataDir);
    if (diskBytesMax !== undefined) store.limitBytes(diskBytesMax);
    return { store, signer: openSigner(dataDir) };
  }
  const address = parsePostgresUrl(postgres);
  if (diskBytesMax !== undefined) {
    throw new ConfigError(
      '--disk-max is for the database in --data: limit the disk of PostgreSQL itself',
      '--disk-max',
    );
  }
  if (options.backups !== undefined) {
    throw new ConfigError('--backup is for the database in --data: back PostgreSQL up with its own tools', '--backup');
  }
  mkdirSync(dataDir, { recursive: true });
  const signer = openSigner(dataDir);
  const { publicKey } = signer;
  const holder = `process ${process.pid} on ${hostname()}`;
  const candidate = { holder, onWaiting, ...(signal === undefined ? {} : { signal }) };
  return { store: await PostgresStore.open(address, { publicKey, ...candidate }), signer };
}

/** The coordinator over a store; nothing of it knows where time, disk and network come from. */
export class Coordinator implements CoordinatorService {
  readonly #store: Store;
  readonly #signer: Signer;
  readonly #registry: Registry;
  readonly #fleet = new Fleet();
  readonly #uploads: Uploads;
  readonly #drivers = new Map<string, TaskDriver>();
  readonly #modelWatchers = new Map<string, Set<(release: SignedManifest) => void>>();
  readonly #releaseWatchers = new Set<(model: string, release: SignedManifest) => void>();
  readonly #taskWatchers = new Map<string, Set<(status: TaskStatus) => void>>();
  readonly #nowMs: () => number;
  readonly #world: DriverWorld;
  readonly #onFatal: (error: Error) => void;
  readonly #onClose: () => void;
  readonly #stopTicking: () => void;
  #fullUntilMs = 0;
  #undecodable = 0;
  #closed = false;

  constructor(
    store: Store,
    signer: Signer,
    { spoolDir, clock = systemClock, log = () => {}, onFatal = throwLater, onClose = () => {} }: ServiceOptions,
  ) {
    const nowMs = (): number => clock.nowMs();
    this.#store = store;
    this.#signer = signer;
    this.#registry = new Registry(store, signer);
    this.#nowMs = nowMs;
    this.#uploads = new Uploads(nowMs);
    this.#onFatal = onFatal;
    this.#onClose = onClose;
    this.#world = {
      store,
      registry: this.#registry,
      signer,
      fleet: this.#fleet,
      spoolDir,
      nowMs,
      log,
      announce: (model, release) => this.#announce(model, release),
      failed: (error) => this.#failed(error),
      changed: (task) => this.#changed(task),
    };
    this.#stopTicking = clock.every(TICK_MS, () => this.#tick());
    void store.lease.lost.then((error) => this.#failed(error));
  }

  get publicKey(): Uint8Array {
    return this.#signer.publicKey;
  }

  async recover(): Promise<void> {
    for (const record of await this.#store.tasks()) {
      this.#drivers.set(record.task, await TaskDriver.load(this.#world, record));
    }
  }

  connectAgent(hello: Hello, sink: AgentSink): AgentSession {
    const { agentId } = hello;
    if (!isName(agentId))
      throw new ServiceError('invalid', `agent id "${agentId.slice(0, 80)}" may have letters, digits, - and _ only`);
    this.#fleet.join(hello, sink, this.#nowMs());
    const value = { publicKey: this.publicKey, heartbeatMs: HEARTBEAT_MS };
    sink.send(create(SessionResponseSchema, { message: { case: 'welcome', value } }));
    this.#forDrivers((driver) => driver.event({ type: 'AgentBack', nowMs: this.#nowMs(), agentId }));
    const closed = (): void => {
      if (!this.#fleet.isCurrent(agentId, sink)) return;
      this.#fleet.leave(agentId);
      this.#forDrivers((driver) => driver.event({ type: 'AgentAway', nowMs: this.#nowMs(), agentId }));
    };
    return {
      receive: (request) => {
        if (this.#fleet.isCurrent(agentId, sink)) this.#receive(agentId, request, closed);
      },
      closed,
    };
  }

  #receive(agentId: string, { message }: SessionRequest, closed: () => void): void {
    this.#fleet.seen(agentId, this.#nowMs());
    switch (message.case) {
      case 'ready':
        this.#fleet.setReady(agentId, true);
        return this.#forDrivers((driver) => (driver.isRunning ? driver.agentReady(agentId) : Promise.resolve()));
      case 'offer':
        for (const offered of message.value.updates.slice(0, OFFER_UPDATES_MAX))
          this.#answerOffer(agentId, offered).catch((error: unknown) => this.#unanswered(agentId, error));
        return;
      case 'failure': {
        const { task, round, reason } = message.value;
        this.#world.log(`${task}: ${agentId} failed in round ${round}: ${reason.slice(0, 200)}`);
        const event = { type: 'AgentOut', nowMs: this.#nowMs(), agentId, round: Number(round) } as const;
        this.#drivers
          .get(task)
          ?.event(event)
          .catch(() => {});
        return;
      }
      case 'goodbye':
        return closed();
      case 'heartbeat':
      case 'hello':
      case undefined:
        return;
    }
  }

  /** A receipt where the update has ended, a wish for it where it is still missing, and an end where its time is over. */
  async #answerOffer(agentId: string, offered: OfferedUpdate): Promise<void> {
    const { updateId, task } = offered;
    if (!ownsId(agentId, offered)) return this.#world.log(`${agentId} offers an update that is not its own`);
    const known = await this.#store.receipt(updateId);
    if (known !== undefined) return this.#fleet.send(agentId, receiptMessage(this.#signer, known));
    const driver = this.#drivers.get(task);
    await driver?.settled();
    if (driver?.holds(updateId) === true) return;
    if (driver?.wants(agentId, offered) === true) {
      return this.#fleet.send(
        agentId,
        create(SessionResponseSchema, { message: { case: 'wanted', value: { updateId } } }),
      );
    }
    const refusal = driver === undefined ? 'unknown-task' : 'stale-round';
    const receipt = rejectedReceipt(this.#signer, { updateId, task, round: Number(offered.round) }, refusal);
    await this.#commit({ receipts: [receipt] });
    this.#fleet.send(agentId, receiptMessage(this.#signer, receipt));
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

  async updateStatus(updateId: Uint8Array): Promise<GetUpdateStatusResponse> {
    const known = await this.#store.receipt(updateId);
    const accepted = [...this.#drivers.values()].some((driver) => driver.holds(updateId));
    return create(GetUpdateStatusResponseSchema, {
      offset: BigInt(this.#uploads.offset(hex(updateId))),
      accepted,
      ...(known === undefined ? {} : { receipt: receiptToWire(this.#signer, known) }),
    });
  }

  async submitChunk(
    agentId: string,
    header: UpdateHeader,
    offset: number,
    data: Uint8Array,
  ): Promise<SubmitUpdateResponse> {
    if (header.agentId !== agentId)
      throw new ServiceError('invalid', `agent ${agentId} sent an update in the name of another`);
    if (this.diskIsFull)
      throw new ServiceError('resource-exhausted', 'the disk of the coordinator is full: try again in 30 s');
    const driver = this.#drivers.get(header.task);
    if (driver === undefined) throw new ServiceError('not-found', `there is no task "${header.task.slice(0, 80)}"`);
    if (!ownsId(agentId, header)) return this.#refused(header, await driver.refuse(header, 'wrong-id'));
    const known = await this.#store.receipt(header.updateId);
    if (known !== undefined) {
      await driver.refuse(header, 'duplicate');
      return this.#submitted(header, isCommitted(known), known);
    }
    const early = driver.refusalOfHeader(header);
    if (early !== undefined) return this.#refused(header, await driver.refuse(header, early));
    const size = Number(header.payloadSize);
    const received = this.#uploads.receive(agentId, hex(header.updateId), size, offset, data);
    if (received.payload === undefined) {
      return create(SubmitUpdateResponseSchema, { offset: BigInt(received.offset) });
    }
    return this.#refused(header, await driver.submit(header, received.payload));
  }

  #refused(header: UpdateHeader, submission: Awaited<ReturnType<TaskDriver['submit']>>): SubmitUpdateResponse {
    if ('accepted' in submission || submission.refusal === 'duplicate') return this.#submitted(header, true);
    // Damaged on the way: without a receipt the agent begins again.
    if (submission.refusal === 'digest-mismatch') return create(SubmitUpdateResponseSchema, {});
    return this.#submitted(header, false, submission.receipt);
  }

  #submitted(
    header: UpdateHeader,
    accepted: boolean,
    receipt?: Parameters<typeof receiptToWire>[1],
  ): SubmitUpdateResponse {
    const signed = receipt === undefined ? {} : { receipt: receiptToWire(this.#signer, receipt) };
    return create(SubmitUpdateResponseSchema, { offset: header.payloadSize, accepted, ...signed });
  }

  async readBlob(digest: Uint8Array, offset: number, lengthMax: number): Promise<BlobPart> {
    const totalSize = await this.#store.blobSize(digest);
    if (totalSize === undefined) throw new ServiceError('not-found', `there is no blob ${hex(digest).slice(0, 64)}`);
    if (offset > totalSize)
      throw new ServiceError('invalid', `offset ${offset} is beyond the blob's ${totalSize} bytes`);
    return { data: await this.#store.readBlob(digest, offset, Math.min(lengthMax, CHUNK_BYTES_MAX)), totalSize };
  }

  getModel(model: string, version: number): Promise<SignedManifest> {
    return this.#registry.release(model, version);
  }

  watchModel(model: string, onRelease: (release: SignedManifest) => void): () => void {
    // What is committed while the newest is being read is told by the watcher itself, and then the older is not told any more.
    let told = false;
    const tell = (release: SignedManifest): void => {
      told = true;
      onRelease(release);
    };
    const stop = watch(this.#modelWatchers, model, tell);
    const first = this.#registry.release(model, 0);
    first.then(
      (release) => (told ? undefined : tell(release)),
      (error: unknown) => this.#world.log(`watch of ${model}: ${(error as Error).message}`),
    );
    return stop;
  }

  watchReleases(onRelease: (model: string, release: SignedManifest) => void): () => void {
    this.#releaseWatchers.add(onRelease);
    return () => this.#releaseWatchers.delete(onRelease);
  }

  async importModel(model: string, onnx: Uint8Array): Promise<SignedManifest> {
    requireName('model', model);
    const release = await understandable(() => this.#registry.importModel(model, onnx, this.#nowMs())).catch(
      (error: unknown) => {
        if (error instanceof StoreError) this.#failed(error);
        throw error;
      },
    );
    this.#announce(model, release);
    return release;
  }

  async listModels(): Promise<ModelSummary[]> {
    const models = await this.#store.models();
    return Promise.all(
      models.map(async (model) => {
        const manifest = await this.#registry.newest(model);
        const { version: newestVersion, createdMs } = manifest;
        return create(ModelSummarySchema, {
          model,
          newestVersion,
          createdMs,
          parameters: parameters(manifest),
        });
      }),
    );
  }

  async listVersions(model: string): Promise<SignedManifest[]> {
    await this.#registry.release(model, 0);
    return (await this.#store.versions(model)).map((record) => this.#registry.toWire(record));
  }

  async createTask(task: string, configJson: string): Promise<TaskStatus> {
    requireName('task', task);
    if (this.#drivers.has(task))
      throw new ServiceError('already-exists', `task "${task}" is there already: choose another name`);
    const driver = await understandable(() => TaskDriver.create(this.#world, task, configJson));
    this.#drivers.set(task, driver);
    return driver.status();
  }

  async startTask(task: string): Promise<TaskStatus> {
    const driver = this.#driver(task);
    const rival = [...this.#drivers.values()].find(
      (other) => other !== driver && other.isRunning && other.config.model === driver.config.model,
    );
    if (rival !== undefined) {
      throw new ServiceError(
        'invalid',
        `task "${rival.task}" is improving ${driver.config.model} already: pause it first`,
      );
    }
    await driver.start();
    return driver.status();
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
    for (const driver of this.#drivers.values()) {
      if (task === undefined ? driver.isRunning : driver.task === task) driver.addBytes(direction, bytes);
    }
  }

  addUndecodable(): void {
    this.#undecodable++;
  }

  get undecodable(): number {
    return this.#undecodable;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopTicking();
    this.#onClose();
    this.#fleet.closeAll('the coordinator is stopping');
    try {
      for (const driver of this.#drivers.values()) await driver.close();
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

  /** The agent offers again when it is reminded. */
  #unanswered(agentId: string, error: unknown): void {
    this.#world.log(`an offer of ${agentId} is not answered: ${(error as Error).message}`);
  }

  #tick(): void {
    if (this.diskIsFull) return;
    this.#forDrivers((driver) => (driver.isRunning ? driver.tick() : Promise.resolve()));
  }

  #announce(model: string, release: SignedManifest): void {
    for (const onRelease of this.#modelWatchers.get(model) ?? []) onRelease(release);
    for (const onRelease of this.#releaseWatchers) onRelease(model, release);
  }

  #changed(task: string): void {
    const watchers = this.#taskWatchers.get(task);
    if (watchers === undefined || watchers.size === 0) return;
    const status = this.#driver(task).status();
    for (const onStatus of watchers) onStatus(status);
  }
}

function watch<T>(watchers: Map<string, Set<T>>, key: string, watcher: T): () => void {
  const set = watchers.get(key) ?? new Set();
  watchers.set(key, set.add(watcher));
  return () => {
    set.delete(watcher);
    if (set.size === 0) watchers.delete(key);
  };
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
