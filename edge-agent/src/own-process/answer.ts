import { constants, getPriority, setPriority } from 'node:os';

export type FromProcess<Outcome> = { outcome: Outcome } | { failure: string };

/** In a process that was asked: does its one job and ends. It ends with its parent, too, and leaves the processor to whatever trains. */
export function answerOnce<Job, Outcome>(work: (job: Job) => Promise<Outcome>): void {
  const { PRIORITY_BELOW_NORMAL: low } = constants.priority;
  // Whoever started the agent lower still may not raise it.
  if (getPriority() < low) setPriority(low);
  process.on('SIGINT', () => {});
  process.on('disconnect', () => process.exit(0));
  process.once('message', (job: Job) => {
    work(job)
      .then(
        (outcome): FromProcess<Outcome> => ({ outcome }),
        (error: unknown): FromProcess<Outcome> => ({ failure: (error as Error).message }),
      )
      .then((message) => process.send?.(message, undefined, undefined, () => process.exit(0)))
      .catch(() => process.exit(1));
  });
}
