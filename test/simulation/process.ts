import type { VirtualTime } from './virtual-time.ts';

const never = <T>(): Promise<T> => new Promise<T>(() => {});

/** A process that may be stopped for a while, as by SIGSTOP, and may die. What comes to it meanwhile waits until it goes on. */
export class SimulatedProcess {
  readonly #time: VirtualTime;
  readonly #waiting: (() => void)[] = [];
  readonly #ends: (() => void)[] = [];
  #isAlive = true;
  #isStopped = false;

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  runs(): boolean {
    return this.#isAlive && !this.#isStopped;
  }

  /** Does some work as the process, as soon as it runs. */
  deliver(work: () => void): void {
    if (!this.#isAlive) return;
    if (this.#isStopped) this.#waiting.push(work);
    else work();
  }

  /** Resolves after a time, and not while the process is stopped; never once it is dead. */
  async wait(ms: number): Promise<void> {
    await this.#time.sleep(ms);
    if (this.#isAlive && this.#isStopped) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (!this.#isAlive) await never();
  }

  /** Again and again as long as the process lives. */
  every(ms: number, work: () => void): () => void {
    const stop = this.#time.every(ms, () => this.runs() && work());
    this.#ends.push(stop);
    return stop;
  }

  stop(ms: number): void {
    if (!this.runs()) return;
    this.#isStopped = true;
    this.#time.after(ms, () => {
      this.#isStopped = false;
      for (const work of this.#waiting.splice(0)) this.deliver(work);
    });
  }

  onEnd(work: () => void): void {
    this.#ends.push(work);
  }

  kill(): void {
    if (!this.#isAlive) return;
    this.#isAlive = false;
    this.#waiting.splice(0);
    for (const end of this.#ends.splice(0)) end();
  }
}
