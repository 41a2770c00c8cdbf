/** Gives out turns, in the order in which they are asked for. */
export class Turns {
  readonly #atOnce: number;
  readonly #waiting: (() => void)[] = [];
  #taken = 0;

  /** `atOnce`: turns at a time. */
  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  /** How many have theirs. */
  get taken(): number {
    return this.#taken;
  }

  /** Whether somebody waits for a turn. */
  get areAwaited(): boolean {
    return this.#waiting.length > 0;
  }

  /** Calls back in its turn, at once where one is free. Gives what ends the turn, or the wait for it; it may be called again. */
  ask(onTurn: () => void): () => void {
    let isOver = false;
    let isTaken = false;
    const begin = (): void => {
      isTaken = true;
      this.#taken += 1;
      onTurn();
    };
    if (this.#taken < this.#atOnce) begin();
    else this.#waiting.push(begin);
    return () => {
      if (isOver) return;
      isOver = true;
      if (!isTaken) return void this.#waiting.splice(this.#waiting.indexOf(begin), 1);
      this.#taken -= 1;
      this.#waiting.shift()?.();
    };
  }
}
