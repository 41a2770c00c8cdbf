/** How fast forms of a model are on this machine, and how far their outputs are apart. */
import { Deviations, type Deviation } from './deviation.ts';
import type { Session } from './engine.ts';
import { meanMs } from './serve-requests.ts';
import type { RowTiming } from './variant.ts';
import type { Feeds, TypedTensor } from './tensor.ts';

const TURNS_MIN = 15;
const TURNS_MAX = 200;
/** Turns that lay out memory and bring the weights into the caches. */
const WARM_UP = 5;
/** Milliseconds that one number of rows may take, once there are enough turns. */
const TIMING_MS = 500;
/** About as long is one session's turn, in which it runs at most so often: browsers' clocks are coarse. */
const TURN_MS = 1;
const RUNS_MAX = 64;

/**
 * Milliseconds that a run of each session takes, by rows, where little comes between: the lower quartile, because other programs only
 * ever add to a run. They take turns, so that a busy machine meets all alike, and a turn of a quick model is of many runs: the way to its
 * worker may take longer than the run.
 */
export async function timeSessions(
  sessions: readonly Session[],
  inputs: readonly { rows: number; feeds: Feeds }[],
): Promise<RowTiming[][]> {
  const timings = sessions.map((): RowTiming[] => []);
  for (const { rows, feeds } of inputs) {
    const times = sessions.map((): number[] => []);
    let runs = 1;
    const endMs = performance.now() + TIMING_MS;
    for (let turn = 0; turn < TURNS_MAX && (turn < TURNS_MIN || performance.now() < endMs); turn++) {
      const took = [];
      for (const session of sessions) took.push(await timeOf(session, copyOf(feeds), runs));
      if (turn >= WARM_UP) for (const [index, ms] of took.entries()) times[index]!.push(ms);
      else runs = Math.min(RUNS_MAX, Math.max(1, Math.ceil(TURN_MS / Math.max(...took))));
    }
    for (const [index, each] of times.entries()) timings[index]!.push({ rows, ms: lowerQuartileOf(each) });
  }
  return timings;
}

/** Of a session that cannot time itself, one run and the way there and back. */
async function timeOf(session: Session, feeds: Record<string, TypedTensor>, runs: number): Promise<number> {
  return session.time === undefined ? meanMs(session, feeds, 1) : session.time(feeds, runs);
}

/** Least milliseconds of a few runs, after two in which a device may compile. */
export async function quickMs(session: Session, feeds: Feeds): Promise<number> {
  let least = Infinity;
  for (let turn = 0; turn < 5; turn++) {
    const ms = await timeOf(session, copyOf(feeds), 1);
    if (turn >= 2) least = Math.min(least, ms);
  }
  return least;
}

/** Runs both on all examples and compares their float outputs. */
export async function compareSessions(exact: Session, other: Session, examples: readonly Feeds[]): Promise<Deviation> {
  const deviations = new Deviations();
  for (const feeds of examples) deviations.add(await exact.run(copyOf(feeds)), await other.run(copyOf(feeds)));
  const { rows, agreeing, difference } = deviations;
  return { difference, agreement: rows === 0 ? 1 : agreeing / rows };
}

/** A run takes the buffers that it is given, so each gets its own. */
const copyOf = (feeds: Feeds): Record<string, TypedTensor> =>
  Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, { ...tensor, data: tensor.data.slice() }]));

const lowerQuartileOf = (times: readonly number[]): number =>
  times.toSorted((a, b) => a - b)[times.length >> 2] ?? Infinity;
