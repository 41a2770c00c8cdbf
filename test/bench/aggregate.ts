import {
  encodings,
  ExactSum,
  gridFor,
  seeded,
  strategyFrom,
  type EncodingName,
  type UpdateBlocks,
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

/** Wire bytes to accumulator, one core, checking included; robust rules from MXINT8 payloads to the delta. */
export async function run(): Promise<Record<string, number | null>> {
  const grid = gridFor({ valueMaxExponent: 3, weightMax: 10_000, cohortMax: 4096 });
  const random = seeded(1);
  const delta = Float32Array.from({ length: LENGTH }, () => random.normal() * 0.01);
  const updatesOf = (encoding: EncodingName): WeightedPayload[] =>
    Array.from({ length: TOGETHER }, () => ({
      encoding,
      payload: encodings[encoding].encode(delta, grid, random),
      weight: 1 + random.integer(1000),
    }));
  const float32 = updatesOf('float32');
  const mxint8 = updatesOf('mxint8');
  const copies = float32.map(({ payload }) => payload);
  const target = new Uint8Array(4 * LENGTH);

  const sum = new ExactSum(LENGTH, grid);
  const plain = new ExactSum(LENGTH, grid, plainAccumulator);
  const fold = (into: ExactSum, updates: readonly WeightedPayload[]) => () => {
    into.reset();
    into.addAll(updates);
  };
  // Interleaved, so that a change of the machine's speed meets all alike.
  const seconds = medians({
    copy: () => copies.forEach((payload) => target.set(payload)),
    float32: fold(sum, float32),
    mxint8: fold(sum, mxint8),
    plain: fold(plain, float32.slice(0, 1)),
  });
  const perUpdate = {
    ...seconds,
    copy: seconds.copy / TOGETHER,
    float32: seconds.float32 / TOGETHER,
    mxint8: seconds.mxint8 / TOGETHER,
  };
  return {
    updates_per_s_float32: 1 / perUpdate.float32,
    updates_per_s_mxint8: 1 / perUpdate.mxint8,
    copy_ratio_float32: perUpdate.copy / perUpdate.float32,
    copy_ratio_mxint8: perUpdate.copy / perUpdate.mxint8,
    loop_ratio_float32: perUpdate.plain / perUpdate.float32,
    ...robustSeconds(),
  };
}

/** Seconds that the rules take over updates in memory, decoding included. */
function robustSeconds(): Record<string, number> {
  const grid = gridFor({ valueMaxExponent: 3, weightMax: 10_000, cohortMax: 4096 });
  const { mxint8 } = encodings;
  // Rounding takes its draws from the stream, so that payloads of one delta are not alike.
  const random = seeded(2);
  const delta = Float32Array.from({ length: LENGTH }, () => random.normal() * 0.01);
  const payloads = Array.from({ length: ROBUST_UPDATES }, () => mxint8.encode(delta, grid, random));
  const updates: UpdateBlocks = {
    count: ROBUST_UPDATES,
    length: LENGTH,
    weights: payloads.map(() => 1),
    read: (update, start, end) => {
      const payload = payloads[update] ?? new Uint8Array(0);
      const parts = mxint8.partsOf(LENGTH, start, end).map((part) => payload.subarray(part.start, part.end));
      return mxint8.decode(Buffer.concat(parts), end - start, grid);
    },
  };
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

function medians<K extends string>(tasks: Record<K, () => void>): Record<K, number> {
  const names = Object.keys(tasks) as K[];
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<K, number[]>;
  for (let i = 0; i < REPEATS + 2; i++) {
    for (const name of names) {
      const start = performance.now();
      tasks[name]();
      if (i >= 2) times[name].push((performance.now() - start) / 1000);
    }
  }
  return Object.fromEntries(
    names.map((name) => [name, times[name].sort((a, b) => a - b)[REPEATS >> 1] ?? 0]),
  ) as Record<K, number>;
}
