/** What a page or a worker of one may have of its surroundings; Node has none of it. */
interface Surroundings {
  addEventListener?: (name: string, listener: () => void) => void;
  removeEventListener?: (name: string, listener: () => void) => void;
  document?: EventTarget & { visibilityState: string };
}

/**
 * Calls back when a browser says that the device has a network again, or when a page that was hidden, whose timers browsers slow down, is looked
 * at; in Node never. Gives what ends it.
 */
export function onReturn(listener: () => void): () => void {
  const around = globalThis as Surroundings;
  const { document } = around;
  const seen = (): void => {
    if (document?.visibilityState === 'visible') listener();
  };
  around.addEventListener?.('online', listener);
  document?.addEventListener('visibilitychange', seen);
  return () => {
    around.removeEventListener?.('online', listener);
    document?.removeEventListener('visibilitychange', seen);
  };
}
