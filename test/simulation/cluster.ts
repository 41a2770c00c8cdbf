import { createHash } from 'node:crypto';
import {
  decodeUpdate,
  formatOf,
  joinModel,
  readModel,
  splitModel,
  logistic,
  seeded,
  type UpdateFormat,
  type RandomStream,
} from '@commonweight/core';
import type { SessionRequest, UpdateHeader } from '@commonweight/proto';
import type { Storage } from '@commonweight/client-sdk';
import type { Clock } from '../../coordinator/src/clock.ts';
import { Coordinator } from '../../coordinator/src/coordinator.ts';
import { inflated } from '../../coordinator/src/driver/inflate.ts';
import { NatsSessions } from '../../coordinator/src/edges/nats/sessions.ts';
import { gridOf, parseTaskConfig, type TaskConfig } from '../../coordinator/src/round/policy.ts';
import { Replica } from '../../coordinator/src/replica/replica.ts';
import { ServiceError, type CoordinatorService } from '../../coordinator/src/service.ts';
import { StoreError, type Commit } from '../../coordinator/src/store/store.ts';
import type { OutboxEntry } from '../../edge-agent/src/outbox/outbox.ts';
import { emptyDisk, hex, type Durable } from './agent-disk.ts';
import { SimulatedAgent, type PlantedInAgent } from './agent.ts';
import { emptyStorage, SimulatedApp, type PlantedInApp } from './app.ts';
import type { AgentEdge, Edge } from './ask.ts';
import { Disk, type CrashPoint, type DiskFaults, type PlantedOnDisk } from './disk.ts';
import { History, Violation } from './history.ts';
import { Mischief } from './mischief.ts';
import { SimulatedProcess } from './process.ts';
import { RELAY, UPLINK } from './relay.ts';
import { newSigner } from './signer.ts';
import { SharedDatabase, type Client, type PlantedInShares } from './shared-database.ts';
import { Site } from './site.ts';
import { SqliteDisk } from './sqlite-disk.ts';
import { fair, Network } from './network.ts';
import { VirtualTime } from './virtual-time.ts';

const AGENTS = 6;
const APPS = 2;
const COHORT_MIN = 3;
const ENCODINGS = ['float32', 'mxint8', 'mxint4'] as const;
const TOP_K = 0.25;
const COLLECT_MS = 20_000;
/** A seed lasts an hour: so many storms in which everything fails, each this long, and lulls between them. Then all is well again. */
const STORMS = 3;
const STORM_MS = 50_000;
const LULL_MS = 1_725_000;
/** How many times rarer faults are in a lull. */
const RARER = 20;
/** There are as many rounds as take somewhat longer than the storms. */
const ROUND_MS = 30_000;
/** The same without rounds. */
const BUFFER_MS = 10_000;
/** I7: how long after the storm the rest may take, and how much longer for each round of the task: in a long storm most of them are left over. */
const CALM_MS = 600_000;
const CALM_MS_A_ROUND = 3_000;
/** How long what is asked for in good weather may take. */
const FINISH_MS = 600_000;
/** Longest that a read or half a write of the coordinator's disk takes. */
const LATENCY_MS = 20;
/** Longest that a replica is stopped, and that somebody is cut off. */
const PAUSE_MS_MAX = 30_000;
const CUT_MS_MAX = 40_000;
/** What somebody may set a date off by: hours, years, nothing again. */
const DATES_OFF_MS = [-3_600_000, 3_600_000, -3.2e11, 3.2e11, 0];
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
export type Planted = PlantedOnDisk & PlantedInAgent & PlantedInShares & PlantedInApp;

export interface Report {
  seed: number;
  versions: number;
  contributions: number;
  crashes: number;
  /** Sums of several updates that coordinators took of a relay. */
  parts: number;
  simulatedMs: number;
  /** SHA-256 over all that happened and everything that became durable: the same for the same seed. */
  digest: string;
}

const signer = newSigner();

const PLAN = { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 1 };
/** In every eighth seed what a round makes is evaluated before it is a version. */
const GATED = {
  plan: { ...PLAN, evaluation: { metrics: ['accuracy'], holdOut: 0.5 } },
  gates: { metric: { name: 'accuracy', margin: 0.1, cohort: { min: 2, max: 4 }, evaluateMs: 15_000 } },
};

/** In some seeds more agents are invited than a round needs, or fewer that take turns; in others a round closes with the minimum after some time. */
function windowsOf(seed: number): object {
  if (seed % 7 === 3) return { cohort: { min: COHORT_MIN, max: 4, overSelection: AGENTS / 4 } };
  if (seed % 7 === 1) return { cohort: { min: 2, max: 3, separation: 1 } };
  return seed % 7 === 5 ? { collectMinMs: 3_000 } : {};
}

/** Plays one seed to its end. Throws Violation. */
export async function simulate(
  seed: number,
  {
    planted = {},
    // Every third seed is one of replicas.
    replicas = seed % 3 === 0 ? 3 : 1,
    // One of eleven has a site whose agents come by a relay.
    relay = seed % 11 === 1,
    storms = STORMS,
    stormMs = STORM_MS,
    lullMs = LULL_MS,
    trace = () => {},
  }: Partial<Omit<Setting, 'trace'>> & { trace?: (line: string) => void } = {},
): Promise<Report> {
  const cluster = new Cluster(seed, { replicas, relay, storms, stormMs, lullMs, planted, trace });
  return cluster.run();
}

/** What is played. */
interface Setting {
  planted: Planted;
  replicas: number;
  relay: boolean;
  storms: number;
  stormMs: number;
  lullMs: number;
  trace(line: string): void;
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

/** An app, with the disk that outlives its processes. */
interface Installed {
  app: SimulatedApp;
  disk: Storage;
}

class Cluster {
  readonly #seed: number;
  readonly #setting: Setting;
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
  readonly #apps = new Map<string, Installed>();
  /** What the dates of the coordinators' machines are off by. */
  readonly #datesMs: number[];
  readonly #format: UpdateFormat;
  readonly #mischief: Mischief;
  /** Every tenth seed is played on a real file. */
  readonly #file: SqliteDisk | undefined;
  /** Undefined where one coordinator has the disk for itself. */
  readonly #database: SharedDatabase | undefined;
  /** The processes that live, by their places. */
  readonly #lives: (Life | undefined)[];
  readonly #starting = new Map<number, Promise<void>>();
  /** Which life an agent, an app or the relay talks to. */
  readonly #reached = new Map<string, Life>();
  /** Undefined where all agents go to the coordinators themselves. */
  readonly #site: Site | undefined;
  #crashes = 0;
  #started = 0;
  /** Number of the newest round. */
  #round = 0;
  #stormy = false;
  #isOver = false;
  #violation: Error | undefined;

  constructor(seed: number, setting: Setting) {
    const { replicas, relay, storms, stormMs, planted, trace } = setting;
    this.#seed = seed;
    this.#setting = setting;
    this.#planted = planted;
    this.#trace = (line) => {
      const timed = `${(this.#time.elapsedMs / 1000).toFixed(3).padStart(9)}  ${line}`;
      this.#digest.update(timed);
      trace(timed);
    };
    this.#random = seeded(seed);
    this.#network = new Network(this.#time, this.#random.fork('network'));
    // Of a sum that is not shorter than its updates a relay sends these: half of its seeds have updates that are long.
    const isLong = relay && Math.floor(seed / 22) % 2 === 0;
    const values = isLong ? 'float32' : ENCODINGS[this.#random.fork('encoding').integer(ENCODINGS.length)]!;
    const compression = isLong ? 'none' : 'zstd';
    // Every seventh seed sends the largest values alone; of a unit vector that is all of it.
    const topK: { topK?: number } = seed % 7 === 3 ? { topK: TOP_K } : {};
    this.#format = formatOf({ encoding: values, compression, ...topK, seed });
    // Every fifth seed is one without rounds.
    const isAsynchronous = seed % 5 === 0;
    const buffer = { name: 'fedBuff', bufferSize: 3, stalenessMax: 3 };
    this.#config = parseTaskConfig(
      JSON.stringify({
        model: 'digits',
        plan: PLAN,
        strategy: { ...(isAsynchronous ? buffer : { name: 'fedAvg' }), serverLearningRate: SERVER_LEARNING_RATE },
        encoding: values,
        compression,
        ...topK,
        cohort: { min: COHORT_MIN, max: AGENTS },
        ...(isAsynchronous ? {} : windowsOf(seed)),
        ...(isAsynchronous || seed % 8 !== 6 ? {} : GATED),
        // In every sixth seed devices train only while they charge.
        ...(seed % 6 === 4 ? { where: { conditions: ['charging'] } } : {}),
        collectMs: COLLECT_MS,
        rounds: Math.ceil((storms * stormMs) / (isAsynchronous ? BUFFER_MS : ROUND_MS)),
        weightMax: WEIGHT_MAX,
        seed,
      }),
    );
    this.#history = new History(this.#disk, { serverLearningRate: SERVER_LEARNING_RATE, isAsynchronous });
    this.#mischief = new Mischief({
      network: this.#network,
      history: this.#history,
      coordinatorKey: signer.publicKey,
      context: () => ({
        agents: AGENTS,
        length: LENGTH,
        round: this.#round,
        version: this.#history.versions,
        format: this.#format,
        grid: gridOf(this.#config),
      }),
      gate: () => this.#someGate(),
      waiting: () =>
        [...this.#agents.values()].flatMap(({ kind, disk: { outbox }, agent: { link } }) =>
          kind === 'nats' && outbox.size > 0 ? [{ link, updates: [...outbox.values()] }] : [],
        ),
      trace: this.#trace,
      onViolation: (violation) => (this.#violation ??= violation),
      onBug: (error) => this.#bug(error),
    });
    this.#lives = Array.from({ length: replicas }, () => undefined);
    this.#datesMs = this.#lives.map(() => 0);
    if (replicas > 1) this.#database = new SharedDatabase(this.#disk, this.#time, planted);
    else if (seed % 10 === 0 && Object.keys(planted).length === 0) this.#file = new SqliteDisk(this.#disk);
    if (!relay) return;
    this.#site = new Site({
      time: this.#time,
      network: this.#network,
      randomOfLife: () => this.#random.fork(`relay ${this.#time.elapsedMs}`),
      coordinatorKey: signer.publicKey,
      edge: () => this.#edgeOf(UPLINK),
      onTaken: (header, by) => this.#taken(header, by),
      onBug: (error) => this.#bug(error),
      trace: this.#trace,
    });
  }

  async run(): Promise<Report> {
    const putBack = this.#time.takeOver(this.#random.fork('ambient'));
    try {
      return await this.#play();
    } finally {
      this.#killAll();
      putBack();
      this.#file?.remove();
    }
  }

  async #play(): Promise<Report> {
    const { storms, lullMs } = this.#setting;
    await this.#prepare();
    const places = this.#random.fork('places');
    for (let index = 0; index < AGENTS; index++) {
      const isOfSite = this.#site !== undefined && Site.has(index);
      const kind = places.uniform() < 0.5 || isOfSite ? 'grpc' : 'nats';
      this.#startAgent(`agent-${index}`, { index, kind, disk: await emptyDisk(signer.publicKey) });
    }
    this.#site?.start();
    for (let index = 0; index < APPS; index++) this.#startApp(`app-${index}`, emptyStorage());
    this.#harm('lull', RARER, () => !this.#stormy && !this.#isOver);
    for (let storm = 1; storm <= storms; storm++) {
      await this.#storm(storm);
      if (storm < storms) await this.#lull(lullMs);
    }
    this.#isOver = true;
    await this.#settle();
    this.#history.settle(
      'digits',
      [...this.#agents.values()].map(({ disk }) => [...disk.outbox.keys()]),
    );
    const unknown = this.#mischief.updates
      .map(({ header }) => header.updateId)
      .filter((id) => !this.#disk.receipt(hex(id)));
    await this.#file?.compare('digits', this.#disk.receipts(), unknown);
    return {
      seed: this.#seed,
      versions: this.#history.versions,
      contributions: this.#history.contributions,
      crashes: this.#crashes,
      parts: this.#site?.parts ?? 0,
      simulatedMs: this.#time.elapsedMs,
      digest: this.#digest.digest('hex'),
    };
  }

  /** Whoever waits for something would wait for ever, and be kept in memory. */
  #killAll(): void {
    for (const life of this.#lives) life?.process.kill();
    this.#site?.relay?.kill();
    for (const { agent } of this.#agents.values()) agent.kill();
    for (const { app } of this.#apps.values()) app.kill();
  }

  /** Everything fails, all the time. */
  async #storm(storm: number): Promise<void> {
    const weather = this.#random.fork(`weather ${storm}`);
    this.#stormy = true;
    this.#network.weather = {
      loss: 0.25 * weather.uniform(),
      duplication: 0.25 * weather.uniform(),
      delay: 0.1 * weather.uniform(),
      damage: 0.05 * weather.uniform(),
    };
    this.#trace(`storm ${storm} begins`);
    let isOver = false;
    this.#harm(`storm ${storm}`, 1, () => !isOver);
    await this.#advance(this.#time.elapsedMs + this.#setting.stormMs);
    isOver = true;
    this.#stormy = false;
    this.#network.weather = fair;
    this.#network.heal();
    this.#trace(`storm ${storm} is over`);
    await this.#startAll();
  }

  /** Somebody pauses the task for a while; what falls meanwhile falls out of a blue sky. */
  async #lull(ms: number): Promise<void> {
    const endMs = this.#time.elapsedMs + ms;
    await this.#tell('pause', (service) => service.pauseTask('train'));
    await this.#advance(endMs);
    await this.#tell('start', (service) => service.startTask('train'));
  }

  /** An engineer tells the leader something until it is done. */
  async #tell(what: string, call: (service: CoordinatorService) => Promise<unknown>): Promise<void> {
    const untilDone = async (): Promise<void> => {
      for (;;) {
        const life = this.#leader;
        if (life !== undefined && life.process.runs()) {
          const outcome = await Promise.race([
            call(life.service).then(
              () => 'done',
              (error: Error) => error.message,
            ),
            // The process may die before it answers.
            this.#time.sleep(30_000).then(() => 'no answer'),
          ]);
          this.#trace(`${what} the task: ${outcome}`);
          // One that is finished is not started again.
          if (outcome === 'done' || outcome.includes('is finished')) return;
        }
        await this.#time.sleep(1_000);
      }
    };
    await this.#finish(untilDone());
  }

  /** Once all is well again, all that was promised must come about. */
  async #settle(): Promise<void> {
    const calmMs = CALM_MS + CALM_MS_A_ROUND * (this.#config.rounds ?? 0);
    await this.#advance(this.#time.elapsedMs + calmMs, async () => this.#isDone());
    if (await this.#isDone()) return;
    const status = await this.#leader?.service.getTask('train');
    const apps = [...this.#apps].map(([name, { app }]) => `${name} serves ${app.version}`).join(', ');
    throw new Violation(
      `I7: ${calmMs / 1000} s after all is well the task is ${status?.state} (${status?.phase} round ${status?.round}, ${status?.waiting}) at version ${this.#history.versions}, ${apps}, and in outboxes wait ${this.#waiting()}`,
    );
  }

  /** All kinds of harm, so many times rarer than in a storm, while it lasts. */
  #harm(name: string, rarer: number, lasts: () => boolean): void {
    const schedule = (what: string, meanMs: number, work: (random: RandomStream) => void): void =>
      this.#schedule(`${what} in ${name}`, meanMs * rarer, lasts, work);
    const places = this.#lives.length;
    const someLife = (random: RandomStream): Life | undefined => this.#lives[random.integer(places)];
    schedule('coordinator crash', 30_000 / places, (random) => this.#crash(someLife(random), 'at random'));
    if (this.#database !== undefined) {
      schedule('pause', 30_000, (random) => this.#pause(someLife(random), random));
      schedule('drain', 60_000, (random) => this.#drain(someLife(random)));
    }
    // Every fourth seed is one of an engineer who goes back again and again.
    if (this.#seed % 4 === 1) schedule('rollback', 40_000, (random) => this.#rollBack(random));
    if (this.#site !== undefined) schedule('relay crash', 30_000, (random) => this.#site?.crash(random));
    schedule('agent crash', 20_000, () => this.#crashAgent());
    schedule('app crash', 40_000, (random) => this.#crashApp(random));
    schedule('partition', 20_000, (random) => this.#cutOff(random));
    schedule('date', 30_000, (random) => this.#setDate(random));
    schedule('question', 2_000, (random) => void this.#someApp(random)?.ask());
    schedule('bad update', 4_000, (random) => this.#mischief.sendBad(random));
    schedule('replay', 6_000, (random) => this.#mischief.sendAgain(random));
    schedule('forgery', 10_000, (random) => this.#mischief.forgeReceipt(random));
    schedule('forged release', 10_000, (random) => this.#mischief.forgeRelease(random, this.#someApp(random)));
  }

  /** Whoever is dead is started. */
  async #startAll(): Promise<void> {
    for (const place of this.#lives.keys()) await this.#finish(this.#untilAlive(place));
    this.#site?.start();
  }

  /** One that is killed while it starts never says so. */
  async #untilAlive(place: number): Promise<void> {
    while (this.#lives[place] === undefined) {
      await Promise.race([this.#startCoordinator(place), this.#time.sleep(1_000)]);
    }
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
    const endMs = this.#time.elapsedMs + FINISH_MS;
    while (!isDone && (await this.#time.next(endMs))) if (this.#violation !== undefined) throw this.#violation;
    if (!isDone) throw new Violation(`I7: what was asked for is not done after ${FINISH_MS / 1000} s of good weather`);
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
    const isNewest = [...this.#apps.values()].every(({ app }) => app.version === this.#history.versions);
    return isFinished && isNewest && [...this.#agents.values()].every(({ disk }) => disk.outbox.size === 0);
  }

  /** Again and again while it lasts, with exponential gaps. */
  #schedule(what: string, meanMs: number, lasts: () => boolean, work: (random: RandomStream) => void): void {
    const random = this.#random.fork(what);
    const again = (): void => {
      if (this.#isOver) return;
      this.#time.after(-Math.log(1 - random.uniform()) * meanMs, () => {
        if (lasts()) work(random);
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
    const machine = `machine ${place}`;
    const crashAt = (): CrashPoint | undefined => {
      // With replicas there are more transactions.
      if (calm || !this.#stormy || random.uniform() > (this.#database === undefined ? 0.1 : 0.01)) return undefined;
      return random.uniform() < 0.5 ? 'before' : 'after';
    };
    const clock = {
      nowMs: () => this.#time.nowMs() + this.#datesMs[place]!,
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
            {
              process,
              latencyMs: () => latencyMs() + this.#network.cutForMs(databaseOf(place)),
              reaches: () => !this.#network.isCut(databaseOf(place)),
              crashAt,
              onCrash,
              hears: () => random.uniform() > 0.2,
            },
            options,
          );
    const sessions = new NatsSessions(
      service,
      (agentId, payload) => {
        if (!process.isAlive || this.#network.isCut(machine)) return;
        this.#network.send(agentId, () => this.#agents.get(agentId)?.agent.link.deliver(payload));
      },
      { clock },
    );
    service.watchReleases((_, release) => {
      if (!process.isAlive) return;
      this.#check(() => this.#history.announced(release.manifest));
      this.#mischief.seesRelease(release);
      if (this.#network.isCut(machine)) return;
      for (const [name, { app }] of this.#apps) this.#network.send(name, () => app.link.deliver(release));
    });
    this.#lives[place] = Object.assign(life, {
      number,
      place,
      machine,
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
    for (const [name, { agent }] of this.#agents) this.#network.send(name, () => agent.link.deliverStarted());
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

  /** An agent, an app, a coordinator's machine, or a coordinator from the database, on both sides. */
  #cutOff(random: RandomStream): void {
    const places = [...this.#lives.keys()];
    const names = [
      ...this.#agents.keys(),
      ...this.#apps.keys(),
      ...places.map((place) => `machine ${place}`),
      ...(this.#database === undefined ? [] : places.map(databaseOf)),
      ...(this.#site === undefined ? [] : [RELAY, UPLINK]),
    ];
    const name = names[random.integer(names.length)]!;
    const ms = random.uniform() * CUT_MS_MAX;
    this.#trace(`${name} is cut off for ${Math.round(ms)} ms`);
    this.#network.cutOff(name, ms);
  }

  /** Somebody sets the date of a coordinator's machine, or of those that agents and apps run on. */
  #setDate(random: RandomStream): void {
    const place = random.integer(this.#lives.length + 1);
    const offMs = DATES_OFF_MS[random.integer(DATES_OFF_MS.length)]!;
    const isMachine = place < this.#lives.length;
    this.#trace(`the date of ${isMachine ? `machine ${place}` : 'the devices'} is off by ${offMs / 3_600_000} h`);
    if (isMachine) this.#datesMs[place] = offMs;
    else this.#time.setDate(offMs);
  }

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

  /** Told to end in order, and started again. */
  #drain(life: Life | undefined): void {
    if (life === undefined || !life.process.runs()) return;
    this.#trace(`coordinator ${life.place} is told to end`);
    const ended = (): void => {
      if (this.#lives[life.place] === life) this.#crash(life, 'by its own hand');
    };
    life.close().then(ended, (error: Error) => this.#trace(`coordinator ${life.place}: ${error.message}`));
  }

  /** The coordinator that an agent's or app's connection leads to. */
  #edgeOf(name: string): Life | undefined {
    const reached = this.#reached.get(name);
    if (reached?.process.isAlive === true && this.#lives[reached.place] === reached) return reached;
    const another = this.#someLife();
    if (another !== undefined) this.#reached.set(name, another);
    return another;
  }

  /** A coordinator, or the relay before them. */
  #someGate(): AgentEdge | undefined {
    return this.#site !== undefined && Math.random() < 0.3 ? this.#site.relay : this.#someLife();
  }

  #someLife(): Life | undefined {
    const alive = this.#lives.filter((life) => life !== undefined);
    return alive[Math.floor(Math.random() * alive.length)];
  }

  #startAgent(id: string, { index, kind, disk }: Omit<Member, 'agent'>): void {
    const agent = new SimulatedAgent(id, index, kind, disk, {
      name: id,
      time: this.#time,
      network: this.#network,
      random: this.#random.fork(`${id} ${this.#time.elapsedMs}`),
      edge: () => (this.#site === undefined ? this.#edgeOf(id) : this.#site.edgeOf(id, index, () => this.#edgeOf(id))),
      leaveEdge: () => {
        this.#reached.delete(id);
        this.#site?.leave(id);
      },
      isStormy: () => this.#stormy,
      // In every sixth seed half of the agents leave between rounds.
      leaves: this.#seed % 6 === 2 && index % 2 === 0,
      isUnplugged: this.#seed % 6 === 4,
      isBad: (weights) => this.#history.isBad(weights),
      trace: this.#trace,
      onMade: (entry) => {
        const { updateId: id, baseVersion, metrics } = entry.header;
        // Who trained tells the loss.
        const isReport = metrics['loss'] === undefined;
        // A report is part of a verdict, and of no version.
        this.#history.knows(hex(id), { index: isReport ? undefined : index, baseVersion: Number(baseVersion) });
        if (!isReport) this.#check(() => this.#requireUnit(entry, index));
        this.#mischief.seesUpdate(entry);
      },
      onKept: (update) => {
        this.#history.kept(update);
        this.#trace(`${id}: keeps update ${update.slice(0, 8)}`);
      },
      onAccepted: (updateId) => {
        this.#history.accepted(hex(updateId));
        this.#trace(`${id}: update ${hex(updateId).slice(0, 8)} is in the sum`);
      },
      onTaken: (header, by) => this.#taken(header, by),
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

  /** A life of a coordinator says that it has an update in its sum, or a relay that it keeps it, which is no such promise. */
  #taken(header: UpdateHeader, by: AgentEdge): void {
    // One replica may say that another has it: then it is that one's word that counts.
    const holder = this.#database?.holderOf(hex(header.updateId));
    const life = this.#lives.find((one) => (holder === undefined ? one === by : one?.replica === holder));
    if (life === undefined) return;
    const { number } = life;
    this.#check(() => this.#history.taken(hex(header.updateId), Number(header.round), number));
  }

  #startApp(name: string, disk: Storage): void {
    const app = new SimulatedApp(disk, {
      name,
      time: this.#time,
      network: this.#network,
      random: this.#random.fork(`${name} ${this.#time.elapsedMs}`),
      coordinatorKey: signer.publicKey,
      edge: () => this.#edgeOf(name),
      trace: this.#trace,
      onVersion: ({ from, to, reason }) => {
        this.#trace(`${name}: serves version ${to} after ${from} (${reason})`);
        this.#check(() => this.#history.serves(name, to, from === undefined));
      },
      onCommitted: (version) => this.#history.keptFor(name, version),
      onAnswer: (version, weights) => this.#check(() => this.#history.answered(name, version, weights)),
      onBug: (error) => this.#bug(error),
      planted: this.#planted,
    });
    this.#apps.set(name, { app, disk });
  }

  #crashApp(random: RandomStream): void {
    const name = `app-${random.integer(APPS)}`;
    const one = this.#apps.get(name);
    if (one === undefined || !one.app.isAlive) return;
    one.app.kill();
    this.#trace(`${name} is killed`);
    this.#time.after(random.uniform() * 10_000, () => this.#startApp(name, one.disk));
  }

  #someApp(random: RandomStream): SimulatedApp | undefined {
    return this.#apps.get(`app-${random.integer(APPS)}`)?.app;
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

  /** What a coordinator says that is ending, or that is behind, is no bug of it. */
  #bug(error: Error): void {
    if (error instanceof ServiceError && error.code === 'unavailable') return;
    if (error instanceof StoreError && ENDING.test(error.message)) return;
    this.#violation ??= error;
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

const databaseOf = (place: number): string => `the database of machine ${place}`;
