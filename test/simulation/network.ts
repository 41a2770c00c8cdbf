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

/** Carries messages with losses, copies, delays and thereby out of order. */
export class Network {
  weather: Weather = fair;
  readonly #time: VirtualTime;
  readonly #random: RandomStream;

  constructor(time: VirtualTime, random: RandomStream) {
    this.#time = time;
    this.#random = random;
  }

  /** Delivers a message never, once or twice. */
  send(deliver: () => void): void {
    const { loss, duplication } = this.weather;
    if (this.#random.uniform() < loss) return;
    this.#time.after(this.#travelMs(), deliver);
    if (this.#random.uniform() < duplication) this.#time.after(this.#travelMs(), deliver);
  }

  /** A request and its answer; both travel. Rejects where no answer comes in time. */
  request<T>(serve: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#time.after(DEADLINE_MS, () => reject(new Error('no answer in time')));
      this.send(() => {
        serve().then(
          (answer) => this.send(() => resolve(answer)),
          (error: Error) => this.send(() => reject(error)),
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
