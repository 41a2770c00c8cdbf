import { ServiceError, type AgentGate } from '@commonweight/coordinator';
import type { UpdateHeader } from '@commonweight/proto';
import type { Clock } from '../../coordinator/src/clock.ts';
import { noFigures, type RelayFigures } from '../../coordinator/src/relay/figures.ts';
import { Relay } from '../../coordinator/src/relay/relay.ts';
import type { UpdateSpool } from '../../coordinator/src/relay/spool.ts';
import { hex } from './agent-disk.ts';
import type { AgentEdge } from './ask.ts';
import { SimulatedProcess } from './process.ts';
import { SimulatedUplink, type UplinkWorld } from './uplink.ts';

/** What the network calls a relay's machine, and its way up. */
export const RELAY = 'the relay';
export const UPLINK = 'the uplink of the relay';

/** How long the first update of a part waits for others. */
const WAIT_MS = 2_000;

/** What each life of a simulated relay finds. */
export type RelayDisk = Map<string, { header: UpdateHeader; payload: Uint8Array }>;

export interface RelayWorld extends Omit<UplinkWorld, 'name' | 'isAlive'> {
  coordinatorKey: Uint8Array;
  disk: RelayDisk;
  trace(line: string): void;
}

/** One life of a relay: the production relay between simulated agents, a disk that outlives it and a simulated uplink. Blobs it only hands on. */
export class SimulatedRelay implements AgentEdge {
  readonly machine = RELAY;
  readonly service: AgentGate;
  readonly #process: SimulatedProcess;
  readonly #figures = noFigures();

  constructor(world: RelayWorld) {
    const { time, trace } = world;
    const process = new SimulatedProcess(time);
    this.#process = process;
    const isAlive = (): boolean => process.isAlive;
    const log = (line: string): void => {
      if (process.isAlive) trace(`${RELAY}: ${line}`);
    };
    const uplink = new SimulatedUplink({ ...world, name: UPLINK, isAlive }, process, {
      up: () => {
        log('the uplink is there');
        relay.reached();
      },
      down: (why) => log(`the uplink is away: ${why}`),
    });
    const clock: Clock = {
      nowMs: () => time.nowMs(),
      monotonicMs: () => time.monotonicMs(),
      every: (ms, work) => process.every(ms, work),
    };
    const relay: Relay = new Relay({
      uplink,
      spool: spoolOn(world, isAlive),
      blobs: { read: (digest, offset, lengthMax) => uplink.readBlob(digest, offset, lengthMax) },
      figures: this.#figures,
      // Never written: updates in part are few and small.
      dir: 'spool',
      waitMs: WAIT_MS,
      clock,
      log,
    });
    this.service = relay;
    log(`starts with ${relay.kept} updates`);
  }

  get figures(): RelayFigures {
    return this.#figures;
  }

  receive(): void {
    throw new Error('agents come to a relay by streams');
  }

  isAlive(): boolean {
    return this.#process.isAlive;
  }

  deliver(work: () => void): void {
    this.#process.deliver(work);
  }

  onEnd(work: () => void): void {
    this.#process.onEnd(work);
  }

  kill(): void {
    this.#process.kill();
  }
}

/** The disk as one life sees it; what a dead one would write comes to nothing. */
function spoolOn({ disk, coordinatorKey }: RelayWorld, isAlive: () => boolean): UpdateSpool {
  return {
    publicKey: coordinatorKey,
    headers: () => [...disk.values()].map(({ header }) => header),
    put: (header, payload) => {
      if (!isAlive()) throw new ServiceError('unavailable', 'the relay is dead');
      disk.set(hex(header.updateId), { header, payload });
    },
    payload: ({ updateId }) => disk.get(hex(updateId))?.payload,
    remove: (updateId) => {
      if (isAlive()) disk.delete(hex(updateId));
    },
  };
}
