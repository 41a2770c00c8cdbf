import type { RandomStream } from '@commonweight/core';
import type { AgentEdge } from './ask.ts';
import { RELAY, SimulatedRelay, type RelayDisk, type RelayWorld } from './relay.ts';

/** Agents of the site: those with the first numbers. */
const AGENTS = 4;
/** Longest that a relay stays dead. */
const DEAD_MS = 8_000;
/** How often the next connection of an agent goes past the relay. */
const PAST_SHARE = 0.2;

export interface SiteWorld extends Omit<RelayWorld, 'disk' | 'random'> {
  /** Of the next life of the relay. */
  randomOfLife(): RandomStream;
}

/** A site whose agents come by a relay, over all lives of that. */
export class Site {
  readonly #world: SiteWorld;
  readonly #disk: RelayDisk = new Map();
  /** Agents that go to a coordinator all the same, until their next connection. */
  readonly #past = new Set<string>();
  #relay: SimulatedRelay | undefined;
  #partsBefore = 0;

  constructor(world: SiteWorld) {
    this.#world = world;
  }

  /** Whether the agent of this number comes by streams, as to a relay they must. */
  static has(index: number): boolean {
    return index < AGENTS;
  }

  /** The relay that lives. */
  get relay(): SimulatedRelay | undefined {
    return this.#relay?.isAlive() === true ? this.#relay : undefined;
  }

  /** Sums of several updates that coordinators took of it. */
  get parts(): number {
    return this.#partsBefore + (this.#relay?.figures.parts ?? 0);
  }

  /** What an agent reaches: the relay or nobody, or what `past` gives. */
  edgeOf(id: string, index: number, past: () => AgentEdge | undefined): AgentEdge | undefined {
    return Site.has(index) && !this.#past.has(id) ? this.relay : past();
  }

  /** The agent is to reach another edge, if there is another. */
  leave(id: string): void {
    if (Math.random() < PAST_SHARE) this.#past.add(id);
    else this.#past.delete(id);
  }

  start(): void {
    if (this.relay !== undefined) return;
    this.#partsBefore = this.parts;
    this.#relay = new SimulatedRelay({ ...this.#world, disk: this.#disk, random: this.#world.randomOfLife() });
  }

  crash(random: RandomStream): void {
    if (this.relay === undefined) return;
    this.relay.kill();
    this.#world.trace(`${RELAY} is killed`);
    this.#world.time.after(random.uniform() * DEAD_MS, () => this.start());
  }
}
