import type { Sha256 } from '../platform/platform.ts';

/** Whom a rollout is for. */
export interface Share {
  /** From 0 to 100. */
  percent: number;
  seed: string;
  /** Clients with any of these labels; all, where there are none. */
  cohorts: readonly { key: string; value: string }[];
}

/** What an app says of itself, for rollouts to name. None of it leaves the app. */
export interface Who {
  /** Stays the same over restarts. */
  clientId: string;
  labels: Readonly<Record<string, string>>;
}

const PLACES = 2 ** 48;

/** Whether a client gets the version of a rollout: the same answer wherever it is asked. */
export async function isChosen(
  model: string,
  { percent, seed, cohorts }: Share,
  { clientId, labels }: Who,
  sha256: Sha256,
): Promise<boolean> {
  const isMember = ({ key, value }: { key: string; value: string }): boolean =>
    Object.hasOwn(labels, key) && labels[key] === value;
  if (cohorts.length > 0 && !cohorts.some(isMember)) return false;
  return percent > 0 && (await placeOf(model, seed, clientId, sha256)) < percent;
}

/** A client's place from 0 to 100, as `Rollout` in channel.proto says: even over clients, another for each seed. */
export async function placeOf(model: string, seed: string, clientId: string, sha256: Sha256): Promise<number> {
  return 100 * (await shareOf(`commonweight.v1.Rollout\n${seed}\n${model}\n${clientId}`, sha256));
}

/** A number in [0, 1) that a text always has: the first 48 bits of its SHA-256. */
export async function shareOf(text: string, sha256: Sha256): Promise<number> {
  const digest = await sha256(new TextEncoder().encode(text));
  return digest.subarray(0, 6).reduce((sum, byte) => sum * 256 + byte, 0) / PLACES;
}
