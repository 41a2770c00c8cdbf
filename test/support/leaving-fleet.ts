// Fleets of agents that leave between rounds, on virtual time: the production coordinator over a disk in memory, and as agents what
// a device does, so that ten thousand of them fit.
import { generateKeyPairSync, sign } from 'node:crypto';
import { create, fromBinary } from '@bufbuild/protobuf';
import { logistic, seeded, writeModel, type RandomStream } from '@commonweight/core';
import {
  HelloSchema,
  ManifestSchema,
  SessionRequestSchema,
  signedBytes,
  gridFromWire,
  type Assignment,
  type UpdateHeader,
} from '@commonweight/proto';
import { Coordinator } from '../../coordinator/src/coordinator.ts';
import type { Signer } from '../../coordinator/src/identity/signer.ts';
import type { AgentSession } from '../../coordinator/src/service.ts';
import { Disk } from '../simulation/disk.ts';
import { VirtualTime } from '../simulation/virtual-time.ts';
import { config, offerOf, updateOf } from './test-agent.ts';

export interface LeavingFleet {
  agents: number;
  cohort: { min: number; max: number; overSelection?: number };
  /** Versions to publish. */
  rounds: number;
  pauseMs?: number;
  /** Of one training, at least and at most. */
  trainMs: readonly [number, number];
  /** All agents come for the first time within this. */
  comeWithinMs: number;
  /** What agents do that have nothing to do: they go when they are told to; or stay for ever; or go by themselves and look again later. */
  idle: 'told' | 'stay' | { stayMs: number; pollMs: number };
  /** When it is given up. */
  endMs: number;
}

export interface FleetFigures {
  published: number;
  seconds: number;
  /** Sessions that began in the busiest second, once all had come for the first time. */
  arrivalsPerSecondMax: number;
  /** Sessions that began for each update that was counted. */
  arrivalsPerUpdate: number;
  /** Share of the time that an agent was connected. */
  connectedShare: number;
  abandoned: number;
}

function newSigner(): Signer {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  return {
    publicKey: new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)),
    sign: (kind, payload) => sign(null, signedBytes(kind, payload), privateKey),
  };
}

/** Plays a fleet until its rounds are published, or its time is over. */
export async function playFleet(fleet: LeavingFleet, seed = 1): Promise<FleetFigures> {
  const time = new VirtualTime();
  const putBack = time.takeOver(seeded(seed));
  try {
    return await new Play(fleet, time, seeded(seed).fork('agents')).run();
  } finally {
    putBack();
  }
}

class Play {
  readonly #fleet: LeavingFleet;
  readonly #time: VirtualTime;
  readonly #random: RandomStream;
  readonly #coordinator: Coordinator;
  readonly #arrivals = new Map<number, number>();
  /** Time that all agents together were connected, up to an instant, and how many are now. */
  #connected = { ms: 0, atMs: 0, now: 0 };

  constructor(fleet: LeavingFleet, time: VirtualTime, random: RandomStream) {
    this.#fleet = fleet;
    this.#time = time;
    this.#random = random;
    const fatal = (error: Error): never => {
      throw error;
    };
    this.#coordinator = new Coordinator(new Disk().open().store, newSigner(), {
      spoolDir: 'never written',
      clock: time,
      onFatal: fatal,
    });
  }

  async run(): Promise<FleetFigures> {
    const { agents, cohort, rounds, pauseMs = 0, comeWithinMs, endMs } = this.#fleet;
    const service = this.#coordinator;
    await service.importModel('flowers', writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
    await service.createTask('train', JSON.stringify({ ...config, cohort, rounds, pauseMs, collectMs: 600_000 }));
    await service.startTask('train');
    for (let i = 0; i < agents; i++) {
      this.#time.after(this.#random.uniform() * comeWithinMs, () => new Visitor(`agent-${i}`, this).come());
    }
    let status = await service.getTask('train');
    for (let events = 1; status.state !== 'finished' && (await this.#time.next(endMs)); events++) {
      if (events % 100 === 0) status = await service.getTask('train');
    }
    status = await service.getTask('train');
    const all = [...this.#arrivals.values()].reduce((sum, count) => sum + count, 0);
    const later = [...this.#arrivals].filter(([second]) => 1000 * second >= comeWithinMs).map(([, count]) => count);
    const figures = {
      published: Number(status.version) - 1,
      seconds: this.#time.elapsedMs / 1000,
      arrivalsPerSecondMax: Math.max(0, ...later),
      arrivalsPerUpdate: all / Number(status.updatesAccepted),
      connectedShare: this.#connectedMs(0) / (this.#time.elapsedMs * agents),
      abandoned: Number(status.roundsAbandoned),
    };
    await service.close();
    return figures;
  }

  get fleet(): LeavingFleet {
    return this.#fleet;
  }

  get time(): VirtualTime {
    return this.#time;
  }

  get random(): RandomStream {
    return this.#random;
  }

  get service(): Coordinator {
    return this.#coordinator;
  }

  arrived(): void {
    const second = Math.floor(this.#time.elapsedMs / 1000);
    this.#arrivals.set(second, (this.#arrivals.get(second) ?? 0) + 1);
    this.#connectedMs(1);
  }

  left(): void {
    this.#connectedMs(-1);
  }

  #connectedMs(change: number): number {
    const { elapsedMs } = this.#time;
    const { ms, atMs, now } = this.#connected;
    this.#connected = { ms: ms + now * (elapsedMs - atMs), atMs: elapsedMs, now: now + change };
    return this.#connected.ms;
  }
}

/** A device: comes, trains when it is invited, keeps its update until a receipt, and goes when it is told to. */
class Visitor {
  readonly #id: string;
  readonly #play: Play;
  #session: AgentSession | undefined;
  #kept: UpdateHeader | undefined;
  #isTraining = false;

  constructor(id: string, play: Play) {
    this.#id = id;
    this.#play = play;
  }

  come(): void {
    const { service, fleet } = this.#play;
    this.#play.arrived();
    const isTold = fleet.idle === 'told';
    let isOver = false;
    const session = service.connectAgent(create(HelloSchema, { agentId: this.#id, sessionId: 's', leaves: isTold }), {
      send: ({ message }) => {
        if (message.case === 'assignment') this.#train(message.value);
        if (message.case === 'receipt') {
          this.#kept = undefined;
          this.#ready();
        }
      },
      close: (_, afterMs = 0) => {
        isOver = true;
        this.#go(afterMs);
      },
    });
    if (isOver) return;
    this.#session = session;
    if (this.#kept === undefined) this.#ready();
    else this.#say({ case: 'offer', value: { updates: [offerOf(this.#kept)] } });
    if (typeof fleet.idle === 'object') this.#stay(fleet.idle);
  }

  /** Who is told nothing looks whether it is wanted, and looks again later. */
  #stay(polling: { stayMs: number; pollMs: number }): void {
    const session = this.#session;
    this.#play.time.after(polling.stayMs, () => {
      if (this.#session !== session) return;
      if (this.#isTraining || this.#kept !== undefined) return this.#stay(polling);
      session?.closed();
      this.#go(polling.pollMs);
    });
  }

  #go(afterMs: number): void {
    this.#session = undefined;
    this.#play.left();
    this.#play.time.after(afterMs, () => this.come());
  }

  #ready(): void {
    this.#say({ case: 'ready', value: {} });
  }

  #say(message: NonNullable<Parameters<typeof create<typeof SessionRequestSchema>>[1]>['message']): void {
    const session = this.#session;
    // What is said arrives a little later, as it does over a network.
    this.#play.time.after(1, () => {
      if (this.#session === session) session?.receive(create(SessionRequestSchema, { message: message! }));
    });
  }

  #train({ base, grid, round }: Assignment): void {
    const { time, random, fleet, service } = this.#play;
    const [least, most] = fleet.trainMs;
    this.#isTraining = true;
    time.after(least + random.uniform() * (most - least), () => {
      this.#isTraining = false;
      const { version } = fromBinary(ManifestSchema, base!.manifest);
      const { header, payload } = updateOf(this.#id, gridFromWire(grid!), { round, baseVersion: version });
      this.#kept = header;
      service.submitChunk(this.#id, header, 0, payload).then(
        ({ receipt }) => {
          if (receipt === undefined) return;
          this.#kept = undefined;
          this.#ready();
        },
        (error: Error) => {
          throw error;
        },
      );
    });
  }
}
