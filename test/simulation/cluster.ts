import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  decodeUpdate,
  encodeUpdate,
  encodings,
  formatOf,
  joinModel,
  readModel,
  splitModel,
  logistic,
  seeded,
  type UpdateFormat,
  type RandomStream,
} from '@commonweight/core';
import {
  formatToWire,
  ReceiptSchema,
  signedBytes,
  SignedReceiptSchema,
  UpdateHeaderSchema,
  updateId,
  type SessionRequest,
  type UpdateHeader,
} from '@commonweight/proto';
import { sha256 } from '@commonweight/client-sdk';
import type { Clock } from '../../coordinator/src/clock.ts';
import { Coordinator } from '../../coordinator/src/coordinator.ts';
import { NatsSessions } from '../../coordinator/src/edges/nats/sessions.ts';
import type { Signer } from '../../coordinator/src/identity/signer.ts';
import { gridOf, parseTaskConfig, type TaskConfig } from '../../coordinator/src/round/policy.ts';
import { Replica } from '../../coordinator/src/replica/replica.ts';
import { ServiceError, type CoordinatorService } from '../../coordinator/src/service.ts';
import { StoreError, type Commit } from '../../coordinator/src/store/store.ts';
import type { OutboxEntry } from '../../edge-agent/src/outbox/outbox.ts';
import { emptyDisk, hex, type Durable } from './agent-disk.ts';
import { SimulatedAgent, type PlantedInAgent } from './agent.ts';
import { Disk, type CrashPoint, type DiskFaults, type PlantedOnDisk } from './disk.ts';
import { History, Violation } from './history.ts';
import type { Edge } from './link.ts';
import { SimulatedProcess } from './process.ts';
import { SharedDatabase, type Client, type PlantedInShares } from './shared-database.ts';
import { inflated } from '../../coordinator/src/driver/inflate.ts';
import { SqliteDisk } from './sqlite-disk.ts';
import { fair, Network } from './network.ts';
import { VirtualTime } from './virtual-time.ts';

const AGENTS = 6;
const COHORT_MIN = 3;
const ENCODINGS = ['float32', 'mxint8', 'mxint4'] as const;
const TOP_K = 0.25;
const COLLECT_MS = 20_000;
/** Faults happen this long; then everything is well again. */
const STORM_MS = 150_000;
/** There are as many rounds as take somewhat longer than the storm. */
const ROUND_MS = 30_000;
/** The same without rounds. */
const BUFFER_MS = 10_000;
/** I7: how long after the storm the rest may take. */
const CALM_MS = 600_000;
/** Longest that a read or half a write of the coordinator's disk takes. */
const LATENCY_MS = 20;
/** Longest that a replica is stopped. */
const PAUSE_MS_MAX = 30_000;
/** What a replica says that learns that it is not wanted any more. */
const ENDING = /may not commit any more|took this replica for dead|the store is closed|stopped while waiting/;
const WEIGHT_MAX = 1000;
const LENGTH = 2 * AGENTS + 2;
/**
 * Weights begin at zero and move by this much of the mean, far below what float32 has beside a one: an agent's trained weights less its
 * base are the unit vector, bit for bit, and yet each version shows its mean in full precision.
 */
const SERVER_LEARNING_RATE = 2 ** -40;

/** Faults to plant, so that it shows whether the checker sees them. */
export type Planted = PlantedOnDisk & PlantedInAgent & PlantedInShares;

export interface Report {
  seed: number;
  versions: number;
  contributions: number;
  crashes: number;
  simulatedMs: number;
  /** SHA-256 over all that happened and everything that became durable: the same for the same seed. */
  digest: string;
}

function newSigner(): Signer {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  return {
    publicKey: new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)),
    sign: (kind, payload) => sign(null, signedBytes(kind, payload), privateKey),
  };
}

const signer = newSigner();
const impostor = newSigner();

/** What is wrong with an update that must not count. */
const BAD = [
  'NaN',
  'too long',
  'too large',
  'uninvited',
  'old round',
  'other base',
  'stolen id',
  'weightless',
] as const;

/** Plays one seed to its end. Throws Violation. */
export async function simulate(
  seed: number,
  {
    planted = {},
    // Every third seed is one of replicas.
    replicas = seed % 3 === 0 ? 3 : 1,
    stormMs = STORM_MS,
    trace = () => {},
  }: { planted?: Planted; replicas?: number; stormMs?: number; trace?: (line: string) => void } = {},
): Promise<Report> {
  const cluster = new Cluster(seed, { replicas, stormMs, planted, trace });
  return cluster.run();
}

/** One life of a coordinator's process. */
interface Life extends Edge {
  number: number;
  place: number;
  process: SimulatedProcess;
  /** Its name among the replicas. */
  replica?: string;
  leads: boolean;
  /** Ends it in order. */
  close(): Promise<void>;
}

interface Member {
  /** The life that runs or ran last. */
  agent: SimulatedAgent;
  disk: Durable;
  index: number;
  kind: 'grpc' | 'nats';
}

class Cluster {
  readonly #seed: number;
  readonly #stormMs: number;
  readonly #planted: Planted;
  readonly #trace: (line: string) => void;
  readonly #time = new VirtualTime();
  readonly #random: RandomStream;
  readonly #network: Network;
  readonly #disk = new Disk();
  readonly #config: TaskConfig;
  readonly #history: History;
  readonly #digest = createHash('sha256');
  readonly #agents = new Map<string, Member>();
  readonly #format: UpdateFormat;
  /** Every real update, for somebody to send it again. */
  readonly #made: OutboxEntry[] = [];
  /** Every tenth seed is played on a real file. */
  readonly #file: SqliteDisk | undefined;
  /** Undefined where one coordinator has the disk for itself. */
  readonly #database: SharedDatabase | undefined;
  /** The processes that live, by their places. */
  readonly #lives: (Life | undefined)[];
  readonly #starting = new Map<number, Promise<void>>();
  /** Which life an agent talks to. */
  readonly #reached = new Map<string, Life>();
  #crashes = 0;
  #started = 0;
  /** Number of the newest round. */
  #round = 0;
  #stormy = false;
  #violation: Error | undefined;

  constructor(
    seed: number,
    {
      replicas,
      stormMs,
      planted,
      trace,
    }: { replicas: number; stormMs: number; planted: Planted; trace: (line: string) => void },
  ) {
    this.#seed = seed;
    this.#stormMs = stormMs;
    this.#planted = planted;
    this.#trace = (line) => {
      const timed = `${(this.#time.elapsedMs / 1000).toFixed(3).padStart(9)}  ${line}`;
      this.#digest.update(timed);
      trace(timed);
    };
    this.#random = seeded(seed);
    this.#network = new Network(this.#time, this.#random.fork('network'));
    const values = ENCODINGS[this.#random.fork('encoding').integer(ENCODINGS.length)]!;
    // Every seventh seed sends the largest values alone; of a unit vector that is all of it.
    const topK: { topK?: number } = seed % 7 === 3 ? { topK: TOP_K } : {};
    this.#format = formatOf({ encoding: values, compression: 'zstd', ...topK, seed });
    // Every fifth seed is one without rounds.
    const isAsynchronous = seed % 5 === 0;
    const buffer = { name: 'fedBuff', bufferSize: 3, stalenessMax: 3 };
    this.#config = parseTaskConfig(
      JSON.stringify({
        model: 'digits',
        plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 1 },
        strategy: { ...(isAsynchronous ? buffer : { name: 'fedAvg' }), serverLearningRate: SERVER_LEARNING_RATE },
        encoding: values,
        ...topK,
        cohort: { min: COHORT_MIN, max: AGENTS },
        collectMs: COLLECT_MS,
        rounds: Math.ceil(stormMs / (isAsynchronous ? BUFFER_MS : ROUND_MS)),
        weightMax: WEIGHT_MAX,
        seed,
      }),
    );
    this.#history = new History(this.#disk, { serverLearningRate: SERVER_LEARNING_RATE, isAsynchronous });
    this.#lives = Array.from({ length: replicas }, () => undefined);
    if (replicas > 1) this.#database = new SharedDatabase(this.#disk, this.#time, planted);
    else if (seed % 10 === 0 && Object.keys(planted).length === 0) this.#file = new SqliteDisk(this.#disk);
  }

  async run(): Promise<Report> {
    const putBack = this.#time.takeOver(this.#random.fork('ambient'));
    try {
      return await this.#play();
    } finally {
      putBack();
      this.#file?.remove();
    }
  }

  async #play(): Promise<Report> {
    await this.#prepare();
    this.#stormy = true;
    const weather = this.#random.fork('weather');
    this.#network.weather = {
      loss: 0.25 * weather.uniform(),
      duplication: 0.25 * weather.uniform(),
      delay: 0.1 * weather.uniform(),
      damage: 0.05 * weather.uniform(),
    };
    for (let index = 0; index < AGENTS; index++) {
      const kind = weather.uniform() < 0.5 ? 'grpc' : 'nats';
      this.#startAgent(`agent-${index}`, { index, kind, disk: await emptyDisk(signer.publicKey) });
    }
    const places = this.#lives.length;
    this.#schedule('coordinator crash', 30_000 / places, (random) =>
      this.#crash(this.#lives[random.integer(places)], 'at random'),
    );
    if (this.#database !== undefined) {
      this.#schedule('pause', 30_000, (random) => this.#pause(this.#lives[random.integer(places)], random));
      this.#schedule('drain', 60_000, (random) => this.#drain(this.#lives[random.integer(places)]));
    }
    // Every fourth seed is one of an engineer who goes back again and again.
    if (this.#seed % 4 === 1) this.#schedule('rollback', 40_000, (random) => this.#rollBack(random));
    this.#schedule('agent crash', 20_000, () => this.#crashAgent());
    this.#schedule('bad update', 4_000, () => this.#sendBadUpdate());
    this.#schedule('replay', 6_000, () => this.#sendAgain());
    this.#schedule('forgery', 10_000, (random) => this.#forge(random));
    await this.#advance(this.#stormMs);
    this.#stormy = false;
    this.#network.weather = fair;
    for (const [place, life] of this.#lives.entries()) {
      if (life === undefined) await this.#finish(this.#startCoordinator(place));
    }
    const endMs = this.#stormMs + CALM_MS;
    await this.#advance(endMs, async () => this.#isDone());
    if (!(await this.#isDone())) {
      const status = await this.#leader?.service.getTask('train');
      throw new Violation(
        `I7: ${CALM_MS / 1000} s after all is well the task is ${status?.state} (${status?.phase} round ${status?.round}, ${status?.waiting}), and in outboxes wait ${this.#waiting()}`,
      );
    }
    this.#history.settle(
      'digits',
      [...this.#agents.values()].map(({ disk }) => [...disk.outbox.keys()]),
    );
    const unknown = this.#made.map(({ header }) => header.updateId).filter((id) => !this.#disk.receipt(hex(id)));
    await this.#file?.compare('digits', this.#disk.receipts(), unknown);
    return {
      seed: this.#seed,
      versions: this.#history.versions,
      contributions: this.#history.contributions,
      crashes: this.#crashes,
      simulatedMs: this.#time.elapsedMs,
      digest: this.#digest.digest('hex'),
    };
  }

  async #prepare(): Promise<void> {
    await this.#finish(this.#startCoordinator(0, true));
    const { service, process } = this.#lives[0]!;
    const { graph } = splitModel(logistic({ inputs: AGENTS, outputs: 2, seed: 1 }));
    await this.#finish(service.importModel('digits', joinModel(readModel(graph), new Float32Array(LENGTH))));
    await this.#finish(service.createTask('train', JSON.stringify(this.#config)));
    await this.#finish(service.startTask('train'));
    process.kill();
    this.#lives[0] = undefined;
    for (const place of this.#lives.keys()) await this.#finish(this.#startCoordinator(place));
  }

  get #leader(): Life | undefined {
    return this.#lives.find((life) => life?.leads === true);
  }

  async #advance(untilMs: number, isOver?: () => Promise<boolean>): Promise<void> {
    let events = 0;
    while (await this.#time.next(untilMs)) {
      if (this.#violation !== undefined) throw this.#violation;
      if (isOver !== undefined && (events += 1) % 200 === 0 && (await isOver())) return;
    }
  }

  /** Lets time go on until something is done. */
  async #finish(work: Promise<unknown>): Promise<void> {
    let isDone = false;
    const done = work.finally(() => (isDone = true));
    while (!isDone && (await this.#time.next(this.#stormMs + CALM_MS)));
    await done;
  }

  #waiting(): string {
    const waiting = [...this.#agents].flatMap(([id, { disk }]) =>
      [...disk.outbox.keys()].map((update) => `${id}'s ${update.slice(0, 8)}`),
    );
    return waiting.join(', ') || 'none';
  }

  async #isDone(): Promise<boolean> {
    const isFinished = (await this.#leader?.service.getTask('train'))?.state === 'finished';
    return isFinished && [...this.#agents.values()].every(({ disk }) => disk.outbox.size === 0);
  }

  /** Again and again while the storm lasts, with exponential gaps. */
  #schedule(what: string, meanMs: number, work: (random: RandomStream) => void): void {
    const random = this.#random.fork(what);
    const again = (): void => {
      this.#time.after(-Math.log(1 - random.uniform()) * meanMs, () => {
        if (!this.#stormy) return;
        work(random);
        again();
      });
    };
    again();
  }

  /** One at a time in a place: what recovers takes its time, and is not there yet meanwhile. */
  #startCoordinator(place: number, calm = false): Promise<void> {
    const starting = this.#starting.get(place) ?? this.#recoverCoordinator(place, calm);
    this.#starting.set(place, starting);
    return starting.finally(() => {
      if (this.#starting.get(place) === starting) this.#starting.delete(place);
    });
  }

  async #recoverCoordinator(place: number, calm: boolean): Promise<void> {
    const number = (this.#started += 1);
    const random = this.#random.fork(`disk ${number}`);
    const process = new SimulatedProcess(this.#time);
    const crashAt = (): CrashPoint | undefined => {
      // With replicas there are more transactions.
      if (calm || !this.#stormy || random.uniform() > (this.#database === undefined ? 0.1 : 0.01)) return undefined;
      return random.uniform() < 0.5 ? 'before' : 'after';
    };
    const clock = {
      nowMs: () => this.#time.nowMs(),
      monotonicMs: () => this.#time.monotonicMs(),
      every: (ms: number, work: () => void) => process.every(ms, work),
    };
    const life: Partial<Life> & Pick<Life, 'process'> = { process };
    const onCrash = (): void => {
      if (this.#lives[place] === life) this.#crash(life as Life, 'at a commit');
      else this.#die(place, process, 'while it starts');
    };
    const latencyMs = (): number => (calm ? 0 : LATENCY_MS * random.uniform());
    const options = {
      // Never written: the simulated strategy sums.
      spoolDir: 'spool',
      clock,
      log: (line: string) => process.isAlive && this.#trace(`coordinator ${place}: ${line}`),
    };
    this.#trace(`coordinator ${place} starts`);
    const service =
      this.#database === undefined
        ? await this.#single(
            number,
            process,
            { crashAt, onCrash, latency: () => this.#time.sleep(latencyMs()), calm },
            options,
          )
        : await this.#replica(
            life,
            this.#database,
            { process, latencyMs, crashAt, onCrash, hears: () => random.uniform() > 0.2 },
            options,
          );
    const sessions = new NatsSessions(
      service,
      (agentId, payload) => {
        if (process.isAlive) this.#network.send(() => this.#agents.get(agentId)?.agent.link.deliver(payload));
      },
      { clock },
    );
    service.watchReleases((_, { manifest }) => process.isAlive && this.#check(() => this.#history.announced(manifest)));
    this.#lives[place] = Object.assign(life, {
      number,
      place,
      service,
      leads: life.leads ?? this.#database === undefined,
      receive: (agentId: string, request: SessionRequest) => sessions.receive(agentId, request),
      isAlive: () => process.isAlive,
      deliver: (work: () => void) => process.deliver(work),
      onEnd: (work: () => void) => process.onEnd(work),
      close: async () => {
        sessions.close();
        await service.close();
      },
    });
    for (const { agent } of this.#agents.values()) this.#network.send(() => agent.link.deliverStarted());
  }

  async #single(
    number: number,
    process: SimulatedProcess,
    {
      calm,
      latency,
      ...faults
    }: Omit<DiskFaults, 'onCommit' | 'latency'> & { calm: boolean; latency(): Promise<void> },
    options: { spoolDir: string; clock: Clock; log(line: string): unknown },
  ): Promise<CoordinatorService> {
    const onCommit = (commit: Commit): void => this.#check(() => this.#committed(commit, new Set([number])));
    const all = { ...faults, ...(calm ? {} : { latency }), onCommit };
    const { store, kill } = this.#file?.open(all) ?? this.#disk.open(all, this.#planted);
    process.onEnd(kill);
    const coordinator = new Coordinator(store, signer, {
      ...options,
      log: (line) => void options.log(line),
      onFatal: (error) => (this.#violation ??= error),
    });
    await coordinator.recover();
    return coordinator;
  }

  async #replica(
    life: Partial<Life> & Pick<Life, 'process'>,
    database: SharedDatabase,
    client: Omit<Client, 'onCommit'>,
    options: { spoolDir: string; clock: Clock; log(line: string): unknown },
  ): Promise<CoordinatorService> {
    const onCommit = (commit: Commit): void => {
      const shared = this.#lives.filter((one) => one !== undefined && database.has(one.replica ?? ''));
      this.#check(() => this.#committed(commit, new Set(shared.map((one) => one!.number))));
    };
    const store = await database.open({ ...client, onCommit });
    life.replica = store.shares.replica;
    const onFatal = (error: Error): void => {
      if (!client.process.isAlive) return;
      // Who learns that it is not the leader any more, or was taken for dead, is to end.
      if (!ENDING.test(error.message)) this.#violation ??= error;
      client.onCrash();
    };
    const log = (line: string): void => void options.log(line);
    return Replica.open(store, {
      ...options,
      log,
      signer,
      holder: store.shares.replica,
      onFatal,
      onLeading: () => (life.leads = true),
      lead: async (leading) => {
        const coordinator = new Coordinator(leading, signer, { ...options, log, onFatal });
        await coordinator.recover();
        return coordinator;
      },
    });
  }

  #crash(life: Life | undefined, how: string): void {
    if (life === undefined) return;
    this.#lives[life.place] = undefined;
    this.#die(life.place, life.process, how);
  }

  #die(place: number, process: SimulatedProcess, how: string): void {
    if (!process.isAlive) return;
    process.kill();
    this.#starting.delete(place);
    this.#crashes += 1;
    this.#trace(`coordinator ${place} is killed ${how}`);
    const restartMs = this.#random.fork(`restart ${this.#crashes}`).uniform() * 8_000;
    this.#time.after(restartMs, () => {
      if (this.#lives[place] === undefined) {
        void this.#startCoordinator(place).catch((error: Error) => (this.#violation ??= error));
      }
    });
  }

  /** Stopped for longer than a lease lasts, now and then. */
  #pause(life: Life | undefined, random: RandomStream): void {
    if (life === undefined) return;
    const ms = random.uniform() * PAUSE_MS_MAX;
    this.#trace(`coordinator ${life.place} is stopped for ${Math.round(ms)} ms`);
    life.process.stop(ms);
  }

  /** Told to end in order, and started again. */
  /** To any older version. */
  #rollBack(random: RandomStream): void {
    const { versions } = this.#history;
    const life = this.#leader;
    if (life === undefined || !life.process.runs() || versions < 2) return;
    const version = 1 + random.integer(versions - 1);
    this.#trace(`coordinator ${life.place} is told to roll back to version ${version}`);
    life.service.rollbackModel('digits', version).catch((error: Error) => {
      this.#trace(`coordinator ${life.place} does not roll back: ${error.message}`);
    });
  }

  #drain(life: Life | undefined): void {
    if (life === undefined || !life.process.runs()) return;
    this.#trace(`coordinator ${life.place} is told to end`);
    const ended = (): void => {
      if (this.#lives[life.place] === life) this.#crash(life, 'by its own hand');
    };
    life.close().then(ended, (error: Error) => this.#trace(`coordinator ${life.place}: ${error.message}`));
  }

  /** The coordinator that an agent's connection leads to. */
  #edgeOf(agentId: string): Life | undefined {
    const reached = this.#reached.get(agentId);
    if (reached?.process.isAlive === true && this.#lives[reached.place] === reached) return reached;
    const another = this.#someLife();
    if (another !== undefined) this.#reached.set(agentId, another);
    return another;
  }

  #someLife(): Life | undefined {
    const alive = this.#lives.filter((life) => life !== undefined);
    return alive[Math.floor(Math.random() * alive.length)];
  }

  #startAgent(id: string, { index, kind, disk }: Omit<Member, 'agent'>): void {
    const agent = new SimulatedAgent(id, index, kind, disk, {
      time: this.#time,
      network: this.#network,
      random: this.#random.fork(`${id} ${this.#time.elapsedMs}`),
      edge: () => this.#edgeOf(id),
      leaveEdge: () => this.#reached.delete(id),
      isStormy: () => this.#stormy,
      trace: this.#trace,
      onMade: (entry) => {
        const { updateId: id, baseVersion } = entry.header;
        this.#history.knows(hex(id), { index, baseVersion: Number(baseVersion) });
        this.#check(() => this.#requireUnit(entry, index));
        this.#made.push(entry);
      },
      onKept: (update) => {
        this.#history.kept(update);
        this.#trace(`${id}: keeps update ${update.slice(0, 8)}`);
      },
      onAccepted: (updateId) => {
        this.#history.accepted(hex(updateId));
        this.#trace(`${id}: update ${hex(updateId).slice(0, 8)} is in the sum`);
      },
      onTaken: (header, by) => {
        // One replica may say that another has it: then it is that one's word that counts.
        const holder = this.#database?.holderOf(hex(header.updateId));
        const life = this.#lives.find((one) => (holder === undefined ? one === by : one?.replica === holder));
        if (life === undefined) return;
        const { number } = life;
        this.#check(() => this.#history.taken(hex(header.updateId), Number(header.round), number));
      },
      onReceipt: (receipt) => {
        const { case: outcome, value } = receipt.outcome;
        this.#trace(`${id}: receipt of ${hex(receipt.updateId).slice(0, 8)}: ${outcome} ${value}`);
        this.#check(() => this.#history.receipt(receipt));
      },
      onBug: (error) => this.#bug(error),
      planted: this.#planted,
    });
    this.#agents.set(id, { agent, index, kind, disk });
  }

  /** What the other checks build on: agent i's update is the unit vector i. */
  #requireUnit({ header, payload }: OutboxEntry, index: number): void {
    const raw = inflated(header, payload) ?? new Uint8Array();
    const values = decodeUpdate(raw, this.#format, LENGTH, gridOf(this.#config));
    if (values.every((value, i) => value === (i === index ? 1 : 0))) return;
    throw new Violation(`agent ${index} made ${values.join(' ')} and not its unit vector`);
  }

  #crashAgent(): void {
    const random = this.#random.fork(`agent crash ${this.#time.elapsedMs}`);
    const id = `agent-${random.integer(AGENTS)}`;
    const one = this.#agents.get(id);
    if (one === undefined || !one.agent.isAlive) return;
    one.agent.kill();
    this.#trace(`${id} is killed`);
    this.#time.after(random.uniform() * 10_000, () => this.#startAgent(id, one));
  }

  /** Somebody sends a real update once more, whatever became of it. */
  #sendAgain(): void {
    const random = this.#random.fork(`again ${this.#time.elapsedMs}`);
    const entry = this.#made[random.integer(this.#made.length)];
    if (entry === undefined) return;
    const { header, payload } = entry;
    this.#network.send(() => {
      const life = this.#someLife();
      life?.deliver(() => void this.#sendOnce(life, header, payload));
    });
  }

  #sendOnce({ service }: Life, header: UpdateHeader, payload: Uint8Array): void {
    service.submitChunk(header.agentId, header, 0, payload).then(
      ({ accepted, receipt }) => accepted && receipt === undefined && this.#history.accepted(hex(header.updateId)),
      (error: Error) => this.#bug(error),
    );
  }

  /** Somebody tells an agent in the coordinator's name that its update is part of a version. */
  #forge(random: RandomStream): void {
    const waiting = [...this.#agents.values()].filter(({ kind, disk }) => kind === 'nats' && disk.outbox.size > 0);
    const victim = waiting[random.integer(waiting.length)];
    if (victim === undefined) return;
    const { header } = [...victim.disk.outbox.values()][0]!;
    const { updateId, task, round } = header;
    const outcome = { case: 'committedVersion', value: BigInt(this.#history.versions + 1) } as const;
    const receipt = toBinary(ReceiptSchema, create(ReceiptSchema, { updateId, task, round, outcome }));
    const forger = random.uniform() < 0.5 ? impostor : { ...impostor, publicKey: signer.publicKey };
    const signature = forger.sign('Receipt', receipt);
    const forged = create(SignedReceiptSchema, { receipt, signature, publicKey: forger.publicKey });
    this.#network.send(() => victim.agent.link.deliverForged(forged));
  }

  /** What a coordinator says that is ending, or that is behind, is no bug of it. */
  #bug(error: Error): void {
    if (error instanceof ServiceError && error.code === 'unavailable') return;
    if (error instanceof StoreError && ENDING.test(error.message)) return;
    this.#violation ??= error;
  }

  /** An update that must change nothing: misshapen, unbidden, stolen, stale, or with values that are none. */
  #sendBadUpdate(): void {
    if (this.#history.versions === 0) return;
    const random = this.#random.fork(`bad ${this.#time.elapsedMs}`);
    const { header, payload, what } = this.#badUpdate(random);
    this.#history.knows(hex(header.updateId), { index: undefined, baseVersion: Number(header.baseVersion) });
    this.#network.send(() => {
      const life = this.#someLife();
      life?.deliver(() =>
        life.service.submitChunk(header.agentId, header, 0, payload).then(
          ({ accepted, receipt }) => {
            if (!accepted || receipt !== undefined) return;
            this.#violation ??= new Violation(`I6: a bad update was accepted: ${what}`);
          },
          () => this.#trace(`a bad update is turned away: ${what}`),
        ),
      );
    });
  }

  #badUpdate(random: RandomStream): { header: UpdateHeader; payload: Uint8Array; what: string } {
    const what = BAD[random.integer(BAD.length)]!;
    const payload = this.#badPayload(what, random);
    const agentId = what === 'uninvited' ? 'outsider' : `agent-${random.integer(AGENTS)}`;
    const version = this.#history.versions - (what === 'other base' ? 1 : 0);
    const round = Math.max(0, this.#round - (what === 'old round' ? 1 : 0));
    const payloadDigest = sha256(payload);
    const identity = { agentId, task: 'train', round, baseVersion: version, payloadDigest };
    const header = create(UpdateHeaderSchema, {
      updateId: what === 'stolen id' ? sha256(Uint8Array.of(random.integer(256))) : updateId(identity, sha256),
      agentId,
      task: 'train',
      round: BigInt(round),
      baseVersion: BigInt(version),
      encoding: formatToWire(this.#format).encoding,
      weight: what === 'weightless' ? 0n : 1n,
      payloadDigest,
      payloadSize: BigInt(payload.length),
    });
    return { header, payload, what };
  }

  /** Twos, which no agent sends; or what is not even on the grid. */
  #badPayload(what: (typeof BAD)[number], random: RandomStream): Uint8Array {
    const twos = new Float32Array(LENGTH).fill(2);
    const { sends, values } = encodings[this.#format.encoding];
    const payload = encodeUpdate(twos, this.#format, gridOf(this.#config), random);
    // Longer than the largest that may be sent.
    if (what === 'too long') return new Uint8Array(4 * LENGTH + 100);
    if (what !== 'NaN' && what !== 'too large') return payload;
    // Of the largest alone, a table and a bitmap come first.
    const first = sends === 'largest' ? 4 + Math.ceil(LENGTH / 8) : 0;
    if (values === 'float32') new DataView(payload.buffer).setFloat32(first, what === 'NaN' ? Number.NaN : 1e30, true);
    else payload[first] = what === 'NaN' ? 0xff : 200;
    return payload;
  }

  #committed(commit: Commit, lives: ReadonlySet<number>): void {
    this.#history.commit(commit, lives);
    const { version, task } = commit;
    if (task !== undefined) this.#round = (JSON.parse(task.roundJson) as { round: number }).round;
    if (version === undefined) return;
    this.#digest.update(version.digest);
    this.#trace(`version ${version.version} is durable`);
  }

  /** A violation is thrown where the simulation is driven, not where the product runs. */
  #check(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#violation ??= error as Error;
    }
  }
}
