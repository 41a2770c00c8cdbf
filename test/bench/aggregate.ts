import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import {
  encodings,
  ExactSum,
  gridFor,
  payloadBlocks,
  seeded,
  strategyFrom,
  type EncodingName,
  type WeightedPayload,
} from '@commonweight/core';
import { plainAccumulator } from '../../core/src/aggregation/plain-accumulator.ts';

/** Parameters of the FedAvg paper's CNN. */
const LENGTH = 1_663_370;
/** Updates folded in one call: what a coordinator has at hand when several arrive together. */
const TOGETHER = 8;
const REPEATS = 15;

/** Updates that robust rules are measured with. */
const ROBUST_UPDATES = 50;
const ROBUST_REPEATS = 3;

/** Of the size where neither updates nor accumulators fit into any cache. */
const LARGE = { length: 25_000_000, together: 3, repeats: 5 };
const ORDINARY = { length: LENGTH, together: TOGETHER, repeats: REPEATS };

/** Wire bytes to accumulator, one core, checking included; robust rules from MXINT8 payloads to the delta. */
export async function run(): Promise<Record<string, number | null>> {
  const seconds = folding(ORDINARY);
  const large = folding(LARGE);
  const numpy = numpySeconds(ORDINARY);
  return {
    updates_per_s_float32: 1 / seconds.float32,
    updates_per_s_mxint8: 1 / seconds.mxint8,
    updates_per_s_mxint4: 1 / seconds.mxint4,
    copy_ratio_float32: seconds.copy / seconds.float32,
    copy_ratio_mxint8: seconds.copy / seconds.mxint8,
    copy_ratio_mxint4: seconds.copy / seconds.mxint4,
    copy_ratio_float32_25m: large.copy / large.float32,
    copy_ratio_mxint8_25m: large.copy / large.mxint8,
    copy_ratio_mxint4_25m: large.copy / large.mxint4,
    loop_ratio_float32: seconds.plain / seconds.float32,
    ratio_numpy_mean: numpy === null ? null : numpy / (TOGETHER * seconds.float32 + seconds.mean),
    ...robustSeconds(),
  };
}

/** Seconds for each update, and for the mean of a sum. */
function folding({ length, together, repeats }: typeof ORDINARY) {
  const grid = gridFor({ valueMaxExponent: 3, weightMax: 10_000, cohortMax: 4096 });
  const random = seeded(1);
  const delta = Float32Array.from({ length }, () => random.normal() * 0.01);
  const updatesOf = (encoding: EncodingName): WeightedPayload[] =>
    Array.from({ length: together }, () => ({
      encoding,
      payload: encodings[encoding].encode(delta, grid, random),
      weight: 1 + random.integer(1000),
    }));
  const float32 = updatesOf('float32');
  const mxint8 = updatesOf('mxint8');
  const mxint4 = updatesOf('mxint4');
  const copies = float32.map(({ payload }) => payload);
  const target = new Uint8Array(4 * length);

  const sum = new ExactSum(length, grid);
  const plain = new ExactSum(length, grid, plainAccumulator);
  const fold = (into: ExactSum, updates: readonly WeightedPayload[]) => () => {
    into.reset();
    into.addAll(updates);
  };
  // Interleaved, so that a change of the machine's speed meets all alike.
  const seconds = medians(
    {
      copy: () => copies.forEach((payload) => target.set(payload)),
      float32: fold(sum, float32),
      mean: () => sum.mean(),
      mxint8: fold(sum, mxint8),
      mxint4: fold(sum, mxint4),
      plain: fold(plain, float32.slice(0, 1)),
    },
    repeats,
  );
  return {
    ...seconds,
    copy: seconds.copy / together,
    float32: seconds.float32 / together,
    mxint8: seconds.mxint8 / together,
    mxint4: seconds.mxint4 / together,
  };
}

/** Seconds that numpy takes for the mean of as many updates; null where python3 has no numpy. */
function numpySeconds({ length, together, repeats }: typeof ORDINARY): number | null {
  const script = join(import.meta.dirname, 'numpy-mean.py');
  const { status, stdout } = spawnSync('python3', [script, String(length), String(together), String(repeats)]);
  return status === 0 ? Number(stdout.toString()) : null;
}

/** Seconds that the rules take over updates in memory, decoding included. */
function robustSeconds(): Record<string, number> {
  const grid = gridFor({ valueMaxExponent: 3, weightMax: 10_000, cohortMax: 4096 });
  const { mxint8 } = encodings;
  // Rounding takes its draws from the stream, so that payloads of one delta are not alike.
  const random = seeded(2);
  const delta = Float32Array.from({ length: LENGTH }, () => random.normal() * 0.01);
  const payloads = Array.from({ length: ROBUST_UPDATES }, () => mxint8.encode(delta, grid, random));
  const updates = payloadBlocks({
    encoding: 'mxint8',
    grid,
    length: LENGTH,
    updates: payloads.map((payload) => ({
      bytes: payload.length,
      weight: 1,
      read: (into, offset) => into.set(payload.subarray(offset, offset + into.length)),
    })),
  });
  const secondsOf = (config: { name: string; attackers?: number }): number => {
    const rule = strategyFrom(config).robust?.rule;
    const times = Array.from({ length: ROBUST_REPEATS }, () => {
      const start = performance.now();
      rule?.(updates, []);
      return (performance.now() - start) / 1000;
    });
    return times.sort((a, b) => a - b)[ROBUST_REPEATS >> 1] ?? 0;
  };
  return {
    median_s: secondsOf({ name: 'median' }),
    trimmed_mean_s: secondsOf({ name: 'trimmedMean' }),
    krum_s: secondsOf({ name: 'krum', attackers: 10 }),
  };
}

function medians<K extends string>(tasks: Record<K, () => void>, repeats: number): Record<K, number> {
  const names = Object.keys(tasks) as K[];
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<K, number[]>;
  for (let i = 0; i < repeats + 2; i++) {
    for (const name of names) {
      const start = performance.now();
      tasks[name]();
      if (i >= 2) times[name].push((performance.now() - start) / 1000);
    }
  }
  return Object.fromEntries(
    names.map((name) => [name, times[name].sort((a, b) => a - b)[repeats >> 1] ?? 0]),
  ) as Record<K, number>;
}
