import { systemClock, type Clock } from '../clock.ts';
import type { Signer } from '../identity/signer.ts';
import type { AgentSession, AgentSink, CoordinatorService } from '../service.ts';
import { StoreError, type SharedStore, type Store } from '../store/store.ts';
import type { Hello, SignedManifest, TaskStatus } from '@commonweight/proto';
import { Follower } from './follower.ts';

interface Watch {
  begin(service: CoordinatorService): () => void;
  stop: () => void;
}

export interface ReplicaOptions {
  signer: Signer;
  spoolDir: string;
  /** Who this is, for the words of others. */
  holder: string;
  clock?: Clock;
  log?: (line: string) => void;
  /** Another leads, and this one shares its work. */
  onFollowing?: (leader: string) => void;
  /** This one leads from now on. */
  onLeading?: (epoch: number) => void;
  onFatal: (error: Error) => void;
  /** The coordinator that leads, over a store that has the lease. */
  lead(store: Store): Promise<CoordinatorService>;
}

/** One of several coordinators on one database: follows until the lease is free, and leads then. */
export class Replica {
  readonly #reads: SharedStore;
  readonly #options: ReplicaOptions;
  readonly #stop = new AbortController();
  readonly #watches = new Set<Watch>();
  #current: CoordinatorService;
  #campaign: Promise<void> = Promise.resolve();

  private constructor(reads: SharedStore, options: ReplicaOptions, current: CoordinatorService) {
    this.#reads = reads;
    this.#options = options;
    this.#current = current;
  }

  /** Leads where nobody does, else follows and leads later. Throws StoreError. */
  static async open(reads: SharedStore, options: ReplicaOptions): Promise<CoordinatorService> {
    const first = await reads.tryToLead(options.holder);
    if (typeof first !== 'string') {
      const leader = await options.lead(first);
      options.onLeading?.(first.lease.epoch);
      return serviceOf(new Replica(reads, options, leader));
    }
    const { signer, spoolDir, clock = systemClock, log = () => {}, onFatal } = options;
    const follower = new Follower({ store: reads, shares: reads.shares, signer, spoolDir, clock, log, onFatal });
    try {
      await follower.recover();
    } catch (error) {
      await follower.close();
      await reads.close();
      throw error;
    }
    options.onFollowing?.(first);
    const replica = new Replica(reads, options, follower);
    replica.#campaign = replica.#leadLater(follower);
    return serviceOf(replica);
  }

  get current(): CoordinatorService {
    return this.#current;
  }

  async #leadLater(follower: Follower): Promise<void> {
    const { holder, onFatal, onLeading, lead } = this.#options;
    try {
      const store = await this.#reads.lead({ holder, signal: this.#stop.signal });
      // Its agents come again, to the leader.
      await follower.close();
      this.#current = await lead(store);
      for (const watch of this.#watches) {
        watch.stop();
        watch.stop = watch.begin(this.#current);
      }
      onLeading?.(store.lease.epoch);
    } catch (error) {
      if (!this.#stop.signal.aborted) onFatal(error as Error);
    }
  }

  /** A watch that outlives the change from follower to leader. */
  watch(begin: (service: CoordinatorService) => () => void): () => void {
    const watch: Watch = { begin, stop: begin(this.#current) };
    this.#watches.add(watch);
    return () => {
      this.#watches.delete(watch);
      watch.stop();
    };
  }

  async close(): Promise<void> {
    this.#stop.abort(new StoreError('the coordinator is stopping'));
    await this.#campaign;
    await this.#current.close();
    await this.#reads.close();
  }
}

/** Hands every call to who is there at the moment. */
function serviceOf(replica: Replica): CoordinatorService {
  const now = (): CoordinatorService => replica.current;
  return {
    get publicKey() {
      return now().publicKey;
    },
    get sentAway() {
      return now().sentAway;
    },
    get undecodable() {
      return now().undecodable;
    },
    get reportCounts() {
      return now().reportCounts;
    },
    get diskIsFull() {
      return now().diskIsFull;
    },
    connectAgent: (hello: Hello, sink: AgentSink): AgentSession => now().connectAgent(hello, sink),
    updateStatus: (updateId) => now().updateStatus(updateId),
    submitChunk: (agentId, header, offset, data) => now().submitChunk(agentId, header, offset, data),
    folding: (task, round) => now().folding(task, round),
    submitPart: (header, part) => now().submitPart(header, part),
    readBlob: (digest, offset, lengthMax) => now().readBlob(digest, offset, lengthMax),
    getModel: (model, version) => now().getModel(model, version),
    watchModel: (model, onRelease: (release: SignedManifest) => void) =>
      replica.watch((service) => service.watchModel(model, onRelease)),
    watchReleases: (onRelease) => replica.watch((service) => service.watchReleases(onRelease)),
    importModel: (model, onnx) => now().importModel(model, onnx),
    listModels: () => now().listModels(),
    listVersions: (model) => now().listVersions(model),
    listKept: (model) => now().listKept(model),
    pinVersion: (model, version, isPinned) => now().pinVersion(model, version, isPinned),
    rollbackModel: (model, version) => now().rollbackModel(model, version),
    getChannel: (model, channel) => now().getChannel(model, channel),
    watchChannel: (model, channel, onRecord) =>
      replica.watch((service) => service.watchChannel(model, channel, onRecord)),
    watchChannels: (onRecord) => replica.watch((service) => service.watchChannels(onRecord)),
    listChannels: (model) => now().listChannels(model),
    promoteVersion: (of, promotion) => now().promoteVersion(of, promotion),
    holdChannel: (of, reason) => now().holdChannel(of, reason),
    rollbackChannel: (of, version) => now().rollbackChannel(of, version),
    reportUse: (reports) => now().reportUse(reports),
    getFleets: (model) => now().getFleets(model),
    getVariants: (model, version) => now().getVariants(model, version),
    makeVariants: (model, version, policy) => now().makeVariants(model, version, policy),
    reportVariant: (report) => now().reportVariant(report),
    createTask: (task, configJson) => now().createTask(task, configJson),
    startTask: (task) => now().startTask(task),
    pauseTask: (task) => now().pauseTask(task),
    getTask: (task) => now().getTask(task),
    listTasks: () => now().listTasks(),
    watchTask: (task, onStatus: (status: TaskStatus) => void) =>
      replica.watch((service) => service.watchTask(task, onStatus)),
    listAgents: () => now().listAgents(),
    listCandidates: (model) => now().listCandidates(model),
    listResults: (of) => now().listResults(of),
    addBytes: (direction, task, bytes) => now().addBytes(direction, task, bytes),
    addUndecodable: () => now().addUndecodable(),
    advertise: (address) => now().advertise(address),
    close: () => replica.close(),
  };
}
