/** What clients know of versions, as far as it decides what they fetch. */
export interface Downloads {
  /** Bytes of the step to each version, the second first; 0 where it travels whole. */
  steps: readonly number[];
  /** The version that each client has. */
  held: Readonly<Record<string, number>>;
}

export const noDownloads: Downloads = { steps: [], held: {} };

/** Steps that a manifest knows of: its own and fifteen before. */
const STEPS_MAX = 16;

/** Bytes that clients fetch for the weights of a version (1 is the first), by steps where these are fewer; and what they have then. */
export function fetched(
  { steps, held }: Downloads,
  clients: readonly number[],
  version: number,
  weightBytes: number,
): { bytes: number; downloads: Downloads } {
  let bytes = 0;
  const now = { ...held };
  for (const client of clients) {
    const from = held[client];
    const way = from === undefined ? [0] : steps.slice(from - 1, version - 1);
    const byWay = way.includes(0) || way.length > STEPS_MAX ? Infinity : way.reduce((sum, step) => sum + step, 0);
    bytes += Math.min(byWay, weightBytes);
    now[client] = version;
  }
  return { bytes, downloads: { steps, held: now } };
}
