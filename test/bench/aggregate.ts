import { encodings, ExactSum, gridFor, seeded, type EncodingName, type WeightedPayload } from '@commonweight/core';
import { plainAccumulator } from '../../core/src/aggregation/plain-accumulator.ts';

/** Parameters of the FedAvg paper's CNN. */
const LENGTH = 1_663_370;
/** Updates folded in one call: what a coordinator has at hand when several arrive together. */
const TOGETHER = 8;
const REPEATS = 15;

/** Wire bytes to accumulator, one core, checking included. */
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
