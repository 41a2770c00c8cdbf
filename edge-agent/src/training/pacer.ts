import { sleep } from '@commonweight/client-sdk';

/** A rest is worth its timer from this on; shorter ones are saved up. */
const REST_MS_MIN = 5;

interface Clock {
  now(): number;
  sleep(ms: number): Promise<void>;
}

/**
 * What keeps a training below a share of the time: to be called after each step, it waits as long as the steps since the last rest make
 * necessary.
 */
export function pacer(
  busy: number,
  clock: Clock = { now: () => performance.now(), sleep: (ms) => sleep(ms) },
): () => Promise<void> {
  let sinceMs = clock.now();
  return async () => {
    if (busy >= 1) return;
    const restMs = (clock.now() - sinceMs) * (1 / busy - 1);
    if (restMs < REST_MS_MIN) return;
    await clock.sleep(restMs);
    sinceMs = clock.now();
  };
}
