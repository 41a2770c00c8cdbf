/** Work that runs one at a time: while it runs, a further call makes it run once more. */
export interface Once {
  run(): Promise<void>;
  /** No further runs; resolves when the last one has ended. */
  stop(): Promise<void>;
}

/** Makes work that runs one at a time; what goes wrong in it is told. */
export function once(work: () => Promise<void>, onError: (error: Error) => void): Once {
  let running: Promise<void> | undefined;
  let isAsked = false;
  let isStopped = false;
  const repeat = async (): Promise<void> => {
    do {
      isAsked = false;
      await work();
    } while (isAsked && !isStopped);
  };
  const run = (): Promise<void> => {
    if (isStopped) return Promise.resolve();
    isAsked = true;
    running ??= repeat()
      .catch((error: unknown) => onError(error as Error))
      .then(() => {
        running = undefined;
        // Asked for between its last look and now.
        return isAsked ? run() : undefined;
      });
    return running;
  };
  return {
    run,
    stop: async () => {
      isStopped = true;
      await running;
    },
  };
}
