/** How fast forms of a model are on this machine, and how far their outputs are apart. */
import { Deviations, isRight, type Deviation } from './deviation.ts';
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

/** A row, with its class where that is known. */
export interface Example {
  feeds: Feeds;
  label: number | undefined;
}

/** Runs both on all examples and compares their float outputs, and how often either is right. */
export async function compareSessions(
  exact: Session,
  other: Session,
  examples: readonly Example[],
): Promise<Deviation> {
  const deviations = new Deviations();
  const right = { labelled: 0, exact: 0, other: 0 };
  for (const { feeds, label } of examples) {
    const [before, after] = [await exact.run(copyOf(feeds)), await other.run(copyOf(feeds))];
    deviations.add(before, after);
    if (label === undefined) continue;
    right.labelled += 1;
    right.exact += Number(isRight(before, label));
    right.other += Number(isRight(after, label));
  }
  const { rows, agreeing, difference } = deviations;
  const deviation = { difference, agreement: rows === 0 ? 1 : agreeing / rows };
  if (right.labelled === 0) return deviation;
  const share = (count: number): number => count / right.labelled;
  const accuracy = { rows: right.labelled, float32: share(right.exact), variant: share(right.other) };
  return { ...deviation, accuracy };
}

/** A run takes the buffers that it is given, so each gets its own. */
const copyOf = (feeds: Feeds): Record<string, TypedTensor> =>
  Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, { ...tensor, data: tensor.data.slice() }]));

const lowerQuartileOf = (times: readonly number[]): number =>
  times.toSorted((a, b) => a - b)[times.length >> 2] ?? Infinity;
