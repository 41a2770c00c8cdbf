/** What a model tells the app. */
export interface ModelEvents {
  /** Another version serves from now on. `from` is undefined for the first. */
  version: { from: number | undefined; to: number; reason: SwapReason };
  /** The version that serves has passed its probation: it will not be taken back by itself any more. */
  committed: { version: number };
  /** The version that serves was taken back: the one before serves again. */
  reverted: { from: number; to: number; reason: string };
  /** A release will not be tried again on this device and runtime. */
  quarantined: { version: number; reason: string };
  /** A release would break what the app relies on: other inputs, or outputs that are gone. */
  incompatible: { version: number; reason: string };
  /** A version that was never served, because a newer one came first or because it could not be used. */
  superseded: { version: number };
  /** Bytes of a release on their way: those that are here, of all that are not on disk yet. */
  progress: { version: number; bytes: number; bytesTotal: number };
  /** Something failed; the version that serves goes on serving. */
  error: Error;
  /**
   * The version that serves may not be the newest: no word from the coordinator for a while, or the last word of its channel has expired,
   * and somebody may be keeping newer ones back. What serves goes on serving, and nothing new is installed by an expired word.
   */
  stale: { version: number | undefined; sinceMs: number; reason: 'silence' | 'expired' };
}

/**
 * Why a version serves: the first one fetched, one found on disk or inside the app, a newer one, one whose bytes served
 * before (or that a channel went back to), one that was taken back to, the same once more because its worker ended, or (to a late listener) it just does.
 */
export type SwapReason = 'first' | 'cached' | 'bundled' | 'newer' | 'rollback' | 'reverted' | 'reloaded' | 'current';

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

  /** Tells one listener; what it throws goes to those of 'error', or to the console where those throw. */
  tell<Name extends keyof ModelEvents>(name: Name, listener: ModelListener<Name>, event: ModelEvents[Name]): void {
    try {
      listener(event);
    } catch (cause) {
      const error = new Error(`a listener of '${name}' threw: ${(cause as Error).message}`, { cause });
      if (name === 'error') console.warn(error);
      else this.emit('error', error);
    }
  }
}
