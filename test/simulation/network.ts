import type { RandomStream } from '@commonweight/core';
import type { VirtualTime } from './virtual-time.ts';

/** How bad the network is; probabilities from 0 to 1. */
export interface Weather {
  loss: number;
  duplication: number;
  /** Of a message being held up for minutes. */
  delay: number;
  /** Of a piece of a blob or an update being altered on the way. */
  damage: number;
}

export const fair: Weather = { loss: 0, duplication: 0, delay: 0, damage: 0 };

const USUAL_MS = 40;
const HELD_UP_MS = 180_000;
const DEADLINE_MS = 10_000;

/** Carries messages with losses, copies, delays and thereby out of order, and none to or from whoever is cut off. */
export class Network {
  weather: Weather = fair;
  readonly #time: VirtualTime;
  readonly #random: RandomStream;
  /** Who is cut off, and until when. */
  readonly #cut = new Map<string, number>();

  constructor(time: VirtualTime, random: RandomStream) {
    this.#time = time;
    this.#random = random;
  }

  /** Nothing reaches or leaves somebody for a while. */
  cutOff(name: string, ms: number): void {
    this.#cut.set(name, this.#time.elapsedMs + ms);
  }

  /** All partitions are over. */
  heal(): void {
    this.#cut.clear();
  }

  isCut(name: string): boolean {
    return this.cutForMs(name) > 0;
  }

  /** How much longer somebody is cut off. */
  cutForMs(name: string): number {
    return Math.max(0, (this.#cut.get(name) ?? 0) - this.#time.elapsedMs);
  }

  /** Delivers a message to or from somebody never, once or twice. */
  send(name: string, deliver: () => void): void {
    const { loss, duplication } = this.weather;
    if (this.#random.uniform() < loss || this.isCut(name)) return;
    const arrive = (): void => {
      if (!this.isCut(name)) deliver();
    };
    this.#time.after(this.#travelMs(), arrive);
    if (this.#random.uniform() < duplication) this.#time.after(this.#travelMs(), arrive);
  }

  /** Somebody's request and its answer; both travel. Rejects where no answer comes in time. */
  request<T>(name: string, serve: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#time.after(DEADLINE_MS, () => reject(new Error('no answer in time')));
      this.send(name, () => {
        serve().then(
          (answer) => this.send(name, () => resolve(answer)),
          (error: Error) => this.send(name, () => reject(error)),
        );
      });
    });
  }

  /** What a message takes that is not held up. */
  usualMs(): number {
    return this.#random.uniform() * USUAL_MS;
  }

  #travelMs(): number {
    const heldUp = this.#random.uniform() < this.weather.delay;
    return heldUp ? this.#random.uniform() * HELD_UP_MS : this.usualMs();
  }
}
