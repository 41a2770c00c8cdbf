/** What a model tells the app. */
export interface ModelEvents {
  /** Another version serves from now on. `from` is undefined for the first. */
  version: { from: number | undefined; to: number; reason: SwapReason };
  /** A version that was never served, because a newer one came first or because it could not be used. */
  superseded: { version: number };
  /** Something failed; the version that serves goes on serving. */
  error: Error;
  /** No word from the coordinator for a while; the version that serves may not be the newest. */
  stale: { version: number | undefined; sinceMs: number };
}

/** Why a version serves: the first one fetched, one found on disk, a newer one, or (to a late listener) it just does. */
export type SwapReason = 'first' | 'cached' | 'newer' | 'current';

export type ModelListener<Name extends keyof ModelEvents> = (event: ModelEvents[Name]) => void;

/** Listeners by event. One that throws does not keep others from hearing. */
export class ModelEmitter {
  readonly #listeners = new Map<keyof ModelEvents, Set<(event: never) => void>>();

  /** Listens until the returned function is called. */
  on<Name extends keyof ModelEvents>(name: Name, listener: ModelListener<Name>): () => void {
    let listeners = this.#listeners.get(name);
    if (listeners === undefined) this.#listeners.set(name, (listeners = new Set()));
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  emit<Name extends keyof ModelEvents>(name: Name, event: ModelEvents[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])])
      this.tell(name, listener as ModelListener<Name>, event);
  }

  /** Tells one listener; what it throws goes to those of 'error', or as a warning where those throw. */
  tell<Name extends keyof ModelEvents>(name: Name, listener: ModelListener<Name>, event: ModelEvents[Name]): void {
    try {
      listener(event);
    } catch (cause) {
      const error = new Error(`a listener of '${name}' threw: ${(cause as Error).message}`, { cause });
      if (name === 'error') process.emitWarning(error);
      else this.emit('error', error);
    }
  }
}
