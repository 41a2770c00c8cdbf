/** Aborts on Ctrl-C, on SIGTERM, and when the process that started this one as a child is gone. */
export function stopSignal(): AbortSignal {
  const stop = new AbortController();
  const abort = (): void => stop.abort();
  process.once('SIGINT', abort).once('SIGTERM', abort);
  if (process.channel !== undefined && process.channel !== null) {
    process.once('disconnect', abort);
    // The channel alone does not keep the process alive.
    process.channel.unref();
  }
  return stop.signal;
}

/** Waits until the signal aborts. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => resolve(), { once: true });
  // An unresolved promise does not keep a process alive; a timer does.
  const alive = setInterval(() => {}, 2 ** 30);
  await promise;
  clearInterval(alive);
}

/** Tells the process that started this one, if it listens. */
export function tellParent(message: object): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}
