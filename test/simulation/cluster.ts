import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { logistic, seeded, writeModel, type RandomStream } from '@commonweight/core';
import { signedBytes, UpdateHeaderSchema, updateId, type UpdateHeader } from '@commonweight/proto';
import { sha256 } from '@commonweight/client-sdk';
import { Coordinator } from '../../coordinator/src/coordinator.ts';
import { NatsSessions } from '../../coordinator/src/edges/nats/sessions.ts';
import type { Signer } from '../../coordinator/src/identity/signer.ts';
import type { Commit } from '../../coordinator/src/store/store.ts';
import { Agent, hex, type AgentDisk, type Edge } from './agent.ts';
import { Disk, type CrashPoint, type PlantedOnDisk } from './disk.ts';
import { History, Violation } from './history.ts';
import { fair, Network } from './network.ts';
import { VirtualTime } from './virtual-time.ts';

const AGENTS = 6;
const COHORT_MIN = 3;
const ROUNDS = 5;
const COLLECT_MS = 20_000;
/** Faults happen this long; then everything is well again. */
const STORM_MS = 150_000;
/** I7: how long after the storm the rest may take. */
const CALM_MS = 600_000;

/** Faults to plant, so that it shows whether the checker sees them. */
export interface Planted extends PlantedOnDisk {
  /** An agent forgets an update once the coordinator has it, and not once there is a receipt. */
  forgetsAcceptedUpdates?: boolean;
  /** An agent's outbox does not outlive its process. */
  forgetsOnStart?: boolean;
  /** An agent sends an update first, and keeps it a while later. */
  sendsBeforeKeeping?: boolean;
}

export interface Report {
  seed: number;
  versions: number;
  contributions: number;
  crashes: number;
  simulatedMs: number;
  /** SHA-256 over everything that became durable: the same for the same seed. */
  digest: string;
}

const { publicKey, privateKey } = generateKeyPairSync('ed25519');
const signer: Signer = {
  publicKey: new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)),
  sign: (kind, payload) => sign(null, signedBytes(kind, payload), privateKey),
};

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
  { planted = {}, trace = () => {} }: { planted?: Planted; trace?: (line: string) => void } = {},
): Promise<Report> {
  const cluster = new Cluster(seed, planted, trace);
  return cluster.run();
}

class Cluster {
  readonly #seed: number;
  readonly #planted: Planted;
  readonly #trace: (line: string) => void;
  readonly #time = new VirtualTime();
  readonly #random: RandomStream;
  readonly #network: Network;
  readonly #disk = new Disk();
  readonly #history = new History(this.#disk);
  readonly #digest = createHash('sha256');
  readonly #agents = new Map<string, { agent: Agent; disk: AgentDisk; index: number }>();
  #life: (Edge & { kill(): void }) | undefined;
  #crashes = 0;
  /** Number of the newest round. */
  #round = 0;
  #stormy = true;
  #violation: Error | undefined;

  constructor(seed: number, planted: Planted, trace: (line: string) => void) {
    this.#seed = seed;
    this.#planted = planted;
    this.#trace = (line) => trace(`${(this.#time.elapsedMs / 1000).toFixed(3).padStart(9)}  ${line}`);
    this.#random = seeded(seed);
    this.#network = new Network(this.#time, this.#random.fork('network'));
  }

  async run(): Promise<Report> {
    await this.#prepare();
    const weather = this.#random.fork('weather');
    this.#network.weather = {
      loss: 0.25 * weather.uniform(),
      duplication: 0.25 * weather.uniform(),
      delay: 0.1 * weather.uniform(),
    };
    for (let index = 0; index < AGENTS; index++) this.#startAgent(`agent-${index}`, index, { outbox: new Map() });
    this.#schedule('coordinator crash', 30_000, () => this.#crash('at random'));
    this.#schedule('agent crash', 20_000, () => this.#crashAgent());
    this.#schedule('bad update', 4_000, () => this.#sendBadUpdate());
    await this.#advance(STORM_MS);
    this.#stormy = false;
    this.#network.weather = fair;
    if (this.#life === undefined) await this.#startCoordinator();
    const endMs = STORM_MS + CALM_MS;
    await this.#advance(endMs, async () => this.#isDone());
    if (!(await this.#isDone())) {
      const status = await this.#life?.service.getTask('train');
      throw new Violation(
        `I7: ${CALM_MS / 1000} s after all is well the task is ${status?.state} (${status?.phase} round ${status?.round}, ${status?.waiting}), and in outboxes wait ${this.#waiting()}`,
      );
    }
    this.#history.settle(
      'digits',
      [...this.#agents.values()].map(({ disk }) => [...disk.outbox.keys()]),
    );
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
    await this.#startCoordinator({ calm: true });
    const service = this.#life!.service;
    const model = logistic({ inputs: AGENTS, outputs: 2, seed: 1 });
    await service.importModel('digits', writeModel(model));
    await service.createTask(
      'train',
      JSON.stringify({
        model: 'digits',
        plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 1 },
        encoding: 'float32',
        cohort: { min: COHORT_MIN, max: AGENTS },
        collectMs: COLLECT_MS,
        rounds: ROUNDS,
        weightMax: 1000,
        seed: this.#seed,
      }),
    );
    await service.startTask('train');
    this.#life!.kill();
    await this.#startCoordinator();
  }

  async #advance(untilMs: number, isOver?: () => Promise<boolean>): Promise<void> {
    let events = 0;
    while (await this.#time.next(untilMs)) {
      if (this.#violation !== undefined) throw this.#violation;
      if (isOver !== undefined && (events += 1) % 200 === 0 && (await isOver())) return;
    }
  }

  #waiting(): string {
    const waiting = [...this.#agents].flatMap(([id, { disk }]) =>
      [...disk.outbox.keys()].map((update) => `${id}'s ${update.slice(0, 8)}`),
    );
    return waiting.join(', ') || 'none';
  }

  async #isDone(): Promise<boolean> {
    const isFinished = (await this.#life?.service.getTask('train'))?.state === 'finished';
    return isFinished && [...this.#agents.values()].every(({ disk }) => disk.outbox.size === 0);
  }

  /** Again and again while the storm lasts, with exponential gaps. */
  #schedule(what: string, meanMs: number, work: () => void): void {
    const random = this.#random.fork(what);
    const again = (): void => {
      this.#time.after(-Math.log(1 - random.uniform()) * meanMs, () => {
        if (!this.#stormy) return;
        work();
        again();
      });
    };
    again();
  }

  async #startCoordinator({ calm = false } = {}): Promise<void> {
    const random = this.#random.fork(`disk ${this.#crashes}`);
    const crashAt = (): CrashPoint | undefined => {
      if (calm || !this.#stormy || random.uniform() > 0.1) return undefined;
      return random.uniform() < 0.5 ? 'before' : 'after';
    };
    const faults = {
      crashAt,
      onCrash: () => this.#crash('at a commit'),
      onCommit: (commit: Commit) => this.#check(() => this.#committed(commit)),
    };
    const { store, kill: killStore } = this.#disk.open(faults, this.#planted);
    let isAlive = true;
    const clock = {
      nowMs: () => this.#time.nowMs(),
      monotonicMs: () => this.#time.monotonicMs(),
      every: (ms: number, work: () => void) => this.#time.every(ms, () => isAlive && work()),
    };
    const service = new Coordinator(store, signer, {
      // Never written: the simulated strategy sums.
      spoolDir: 'spool',
      clock,
      log: (line) => isAlive && this.#trace(`coordinator: ${line}`),
      onFatal: (error) => (this.#violation ??= error),
    });
    const sessions = new NatsSessions(
      service,
      (agentId, payload) => {
        if (isAlive) this.#network.send(() => this.#agents.get(agentId)?.agent.deliver(payload));
      },
      clock,
    );
    const kill = (): void => {
      isAlive = false;
      killStore();
    };
    this.#trace('a coordinator starts');
    await service.recover();
    this.#life = { service, kill, receive: (agentId, request) => sessions.receive(agentId, request) };
    for (const id of this.#agents.keys()) this.#network.send(() => this.#agents.get(id)?.agent.deliverStarted());
  }

  #crash(how: string): void {
    const life = this.#life;
    if (life === undefined) return;
    life.kill();
    this.#life = undefined;
    this.#crashes += 1;
    this.#trace(`the coordinator is killed ${how}`);
    const restartMs = this.#random.fork(`restart ${this.#crashes}`).uniform() * 8_000;
    this.#time.after(restartMs, () => {
      if (this.#life === undefined) void this.#startCoordinator().catch((error: Error) => (this.#violation ??= error));
    });
  }

  #startAgent(id: string, index: number, disk: AgentDisk): void {
    const agent = new Agent(id, index, disk, {
      time: this.#time,
      network: this.#network,
      random: this.#random.fork(`${id} ${this.#time.elapsedMs}`),
      edge: () => this.#life,
      onKept: (update) => {
        this.#history.knows(update, { index });
        this.#history.kept(update);
        this.#trace(`${id}: keeps update ${update.slice(0, 8)}`);
      },
      onAccepted: (update) => {
        this.#history.accepted(update);
        this.#trace(`${id}: update ${update.slice(0, 8)} is in the sum`);
      },
      onReceipt: (receipt) => {
        const { case: outcome, value } = receipt.outcome;
        this.#trace(`${id}: receipt of ${hex(receipt.updateId).slice(0, 8)}: ${outcome} ${value}`);
        this.#check(() => this.#history.receipt(receipt));
      },
      planted: this.#planted,
    });
    this.#agents.set(id, { agent, disk, index });
  }

  #crashAgent(): void {
    const random = this.#random.fork(`agent crash ${this.#time.elapsedMs}`);
    const id = `agent-${random.integer(AGENTS)}`;
    const one = this.#agents.get(id);
    if (one === undefined) return;
    one.agent.kill();
    this.#trace(`${id} is killed`);
    if (this.#planted.forgetsOnStart === true) one.disk.outbox.clear();
    this.#time.after(random.uniform() * 10_000, () => this.#startAgent(id, one.index, one.disk));
  }

  /** An update that must change nothing: misshapen, unbidden, stolen, stale, or with values that are none. */
  #sendBadUpdate(): void {
    const life = this.#life;
    if (life === undefined) return;
    const random = this.#random.fork(`bad ${this.#time.elapsedMs}`);
    const header = this.#badUpdate(random);
    this.#history.knows(hex(header.header.updateId), { index: undefined });
    this.#network.send(() => {
      this.#life?.service.submitChunk(header.header.agentId, header.header, 0, header.payload).then(
        (answer) => {
          if (answer.accepted && answer.receipt === undefined) {
            this.#violation ??= new Violation(`I6: a bad update was accepted: ${header.what}`);
          }
        },
        () => this.#trace(`a bad update is turned away: ${header.what}`),
      );
    });
  }

  #badUpdate(random: RandomStream): { header: UpdateHeader; payload: Uint8Array; what: string } {
    const what = BAD[random.integer(BAD.length)]!;
    const length = 2 * AGENTS + 2;
    const values = new Float32Array(length).fill(what === 'NaN' ? Number.NaN : what === 'too large' ? 1e30 : 1);
    const payload = new Uint8Array(values.buffer).slice(0, what === 'too long' ? 4 * length - 4 : 4 * length);
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
      encoding: 1,
      weight: what === 'weightless' ? 0n : 1n,
      payloadDigest,
      payloadSize: BigInt(payload.length),
    });
    return { header, payload, what };
  }

  #committed(commit: Commit): void {
    this.#history.commit(commit);
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
