/** How fast forms of a model are on this machine, and how far their outputs are apart. */
import type { Session } from './engine.ts';
import type { RowTiming } from './variant.ts';
import type { Feeds, TypedTensor } from './tensor.ts';

const TURNS_MIN = 15;
const TURNS_MAX = 200;
/** Turns that lay out memory and bring the weights into the caches. */
const WARM_UP = 5;
/** Milliseconds that one number of rows may take, once there are enough turns. */
const TIMING_MS = 500;

/** Median milliseconds of each session by rows. They take turns, so that a busy machine meets all alike. */
export async function timeSessions(
  sessions: readonly Session[],
  inputs: readonly { rows: number; feeds: Feeds }[],
): Promise<RowTiming[][]> {
  const timings = sessions.map((): RowTiming[] => []);
  for (const { rows, feeds } of inputs) {
    const times = sessions.map((): number[] => []);
    const endMs = performance.now() + TIMING_MS;
    for (let turn = 0; turn < TURNS_MAX && (turn < TURNS_MIN || performance.now() < endMs); turn++) {
      for (const [index, session] of sessions.entries()) {
        const given = copyOf(feeds);
        const startMs = performance.now();
        await session.run(given);
        if (turn >= WARM_UP) times[index]!.push(performance.now() - startMs);
      }
    }
    for (const [index, each] of times.entries()) timings[index]!.push({ rows, ms: medianOf(each) });
  }
  return timings;
}

/** How far outputs are from those of the form they are compared with. */
export interface Deviation {
  /** Largest difference as a share of the largest value of the output. */
  difference: number;
  /** Share of rows whose largest value stays in its place. */
  agreement: number;
}

/** Runs both on all examples and compares their float outputs. */
export async function compareSessions(exact: Session, other: Session, examples: readonly Feeds[]): Promise<Deviation> {
  const largest = new Map<string, number>();
  const furthest = new Map<string, number>();
  let [rows, agreeing] = [0, 0];
  for (const feeds of examples) {
    const [before, after] = [await exact.run(copyOf(feeds)), await other.run(copyOf(feeds))];
    for (const [name, { data: left, dims }] of Object.entries(before)) {
      const right = after[name]?.data;
      if (!(left instanceof Float32Array) || !(right instanceof Float32Array) || right.length !== left.length) continue;
      const width = dims.at(-1) ?? 1;
      largest.set(
        name,
        left.reduce((most, value) => Math.max(most, Math.abs(value)), largest.get(name) ?? 0),
      );
      furthest.set(
        name,
        left.reduce((most, value, index) => worse(most, Math.abs(value - right[index]!)), furthest.get(name) ?? 0),
      );
      if (width < 2) continue;
      for (let start = 0; start < left.length; start += width) {
        rows += 1;
        if (placeOfLargest(left, start, width) === placeOfLargest(right, start, width)) agreeing += 1;
      }
    }
  }
  const shares = [...furthest].map(([name, difference]) => (difference === 0 ? 0 : difference / largest.get(name)!));
  return { difference: shares.reduce(worse, 0), agreement: rows === 0 ? 1 : agreeing / rows };
}

/** A run takes the buffers that it is given, so each gets its own. */
const copyOf = (feeds: Feeds): Record<string, TypedTensor> =>
  Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, { ...tensor, data: tensor.data.slice() }]));

/** The larger; NaN is worse than any. */
const worse = (a: number, b: number): number => (a >= b ? a : b);

function placeOfLargest(values: Float32Array, start: number, width: number): number {
  let place = 0;
  for (let index = 1; index < width; index++) if (values[start + index]! > values[start + place]!) place = index;
  return place;
}

const medianOf = (times: readonly number[]): number => times.toSorted((a, b) => a - b)[times.length >> 1] ?? Infinity;
