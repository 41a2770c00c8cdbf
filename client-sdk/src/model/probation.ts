/** When a version that serves is kept for good, and when it goes. */
export interface ProbationPolicy {
  /** How long a version is on probation. */
  probationMs: number;
  /** Its p95 latency may be this many times that of the version before. */
  latencyFactorMax: number;
  /** Latencies below are never too long. */
  latencyFloorMs: number;
  /** Predictions before latencies are compared. */
  predictionsMin: number;
}

export const PROBATION: ProbationPolicy = {
  probationMs: 60_000,
  latencyFactorMax: 5,
  latencyFloorMs: 50,
  predictionsMin: 50,
};

const SAMPLES_MAX = 256;

/** The last latencies of a version. */
export class Latencies {
  readonly #samples: number[] = [];
  #seen = 0;

  add(ms: number): void {
    this.#samples[this.#seen % SAMPLES_MAX] = ms;
    this.#seen += 1;
  }

  get count(): number {
    return this.#samples.length;
  }

  /** The 95th percentile, or undefined where there are none. */
  p95(): number | undefined {
    return this.#samples.toSorted((a, b) => a - b)[Math.ceil(this.#samples.length * 0.95) - 1];
  }
}

/** Why a version is too slow, or undefined while it is not. */
export function tooSlow(before: Latencies, now: Latencies, policy: ProbationPolicy): string | undefined {
  const { latencyFactorMax, latencyFloorMs, predictionsMin } = policy;
  if (before.count < predictionsMin || now.count < predictionsMin) return undefined;
  const [was, is] = [before.p95() ?? 0, now.p95() ?? 0];
  if (is <= latencyFloorMs || is <= was * latencyFactorMax) return undefined;
  return `its predictions take ${is.toFixed(1)} ms (p95), those of the version before took ${was.toFixed(1)} ms`;
}
