/** Who hears of what is new: those who watch one key, each at once with what there is, and those who watch all. */
export class Announcements<T> {
  readonly #ofKey = new Map<string, Set<(value: T) => void>>();
  readonly #ofAll = new Set<(key: string, value: T) => void>();

  announce(key: string, value: T): void {
    for (const onValue of this.#ofKey.get(key) ?? []) onValue(value);
    for (const onValue of this.#ofAll) onValue(key, value);
  }

  /** Keys that somebody watches. */
  watched(): string[] {
    return [...this.#ofKey.keys()];
  }

  /** `first` is what there is now; where it fails, `onError` hears why, and the watcher of what comes. */
  watch(
    key: string,
    onValue: (value: T) => void,
    { first, onError }: { first: Promise<T>; onError: (error: Error) => void },
  ): () => void {
    // What comes while the first is being read is told by the watcher itself, and then the older is not told any more.
    let told = false;
    const tell = (value: T): void => {
      told = true;
      onValue(value);
    };
    first.then((value) => (told ? undefined : tell(value)), onError);
    return watch(this.#ofKey, key, tell);
  }

  watchAll(onValue: (key: string, value: T) => void): () => void {
    this.#ofAll.add(onValue);
    return () => this.#ofAll.delete(onValue);
  }
}

/** Adds a watcher of a key. Gives what takes it away again. */
export function watch<T>(watchers: Map<string, Set<T>>, key: string, watcher: T): () => void {
  const set = watchers.get(key) ?? new Set();
  watchers.set(key, set.add(watcher));
  return () => {
    set.delete(watcher);
    if (set.size === 0) watchers.delete(key);
  };
}
