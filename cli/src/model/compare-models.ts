import { contractOf, decibels, type ModelProto } from '@commonweight/core';
import { copyOf, type Feeds, type ModelRunner, type Samples } from './run-model.ts';

/** How far a model's outputs are from those of the model it was made from. */
export interface Comparison {
  maxError: number;
  sqnrDb: number;
  /** Largest error of an output, as a share of the largest of its values before. */
  difference: number;
  /** Share of rows whose largest output stays in its place. */
  agreement: number;
  /** Shares of right answers, where labels are known. */
  accuracy: { before: number; after: number; examples: number } | undefined;
}

export async function compareModels(
  runner: ModelRunner,
  before: ModelProto,
  after: ModelProto,
  samples: Samples,
): Promise<Comparison> {
  const outputs = before.graph?.output.map(({ name }) => name) ?? [];
  // Rows are told apart where the size of the last axis is known.
  const widths = new Map(contractOf(before).outputs.map(({ name, dims }) => [name, dims.at(-1) ?? 1]));
  const exact: Map<string, Float32Array>[] = [];
  for await (const tensors of runner.run(before, samples)) exact.push(tensors);
  const largest = new Map<string, number>();
  const furthest = new Map<string, number>();
  let [maxError, signal, noise, examples, rightBefore, rightAfter, index] = [0, 0, 0, 0, 0, 0, 0];
  let [rows, agreeing] = [0, 0];
  for await (const tensors of runner.run(after, samples)) {
    const labels = samples.batches[index]?.labels;
    for (const name of outputs) {
      const [left, right] = [exact[index]?.get(name), tensors.get(name)];
      if (left === undefined || right === undefined) continue;
      let [most, worst] = [largest.get(name) ?? 0, furthest.get(name) ?? 0];
      left.forEach((value, position) => {
        const error = Math.abs(value - right[position]!);
        if (!(error <= worst)) worst = error;
        most = Math.max(most, Math.abs(value));
        signal += value ** 2;
        noise += error ** 2;
      });
      largest.set(name, most);
      furthest.set(name, worst);
      if (!(worst <= maxError)) maxError = worst;
      const width = widths.get(name) ?? 1;
      for (let start = 0; width > 1 && start < left.length; start += width) {
        rows += 1;
        if (placeOfLargest(left, start, width) === placeOfLargest(right, start, width)) agreeing += 1;
      }
      if (labels === undefined || name !== outputs[0]) continue;
      examples += labels.length;
      rightBefore += rightAnswers(left, labels);
      rightAfter += rightAnswers(right, labels);
    }
    index += 1;
  }
  const accuracy =
    examples === 0 ? undefined : { before: rightBefore / examples, after: rightAfter / examples, examples };
  const shares = [...furthest].map(([name, error]) => (error === 0 ? 0 : error / (largest.get(name) ?? 0)));
  return {
    maxError,
    sqnrDb: decibels(signal, noise),
    difference: shares.reduce((most, share) => (share <= most ? most : share), 0),
    agreement: rows === 0 ? 1 : agreeing / rows,
    accuracy,
  };
}

function placeOfLargest(values: Float32Array, start: number, width: number): number {
  let place = 0;
  for (let index = 1; index < width; index++) if (values[start + index]! > values[start + place]!) place = index;
  return place;
}

function rightAnswers(scores: Float32Array, labels: ArrayLike<number>): number {
  const classes = scores.length / labels.length;
  return Array.from(labels).filter((label, row) => {
    const logits = scores.subarray(row * classes, (row + 1) * classes);
    return logits.indexOf(Math.max(...logits)) === label;
  }).length;
}

const RUNS_MIN = 20;
const RUNS_MAX = 300;
const TIMING_MS = 2000;

/**
 * Median milliseconds of one run of each on one thread, as an app of the SDK has to wait for it, turn by turn, so that a busy machine meets both
 * alike. The second gets `others`, where its inputs have other names.
 */
export async function latenciesOf(
  runner: ModelRunner,
  models: readonly [ModelProto, ModelProto],
  feeds: Feeds,
  others: Feeds = feeds,
): Promise<[number, number]> {
  const sessions = [await runner.open(models[0]), await runner.open(models[1])];
  const times: [number[], number[]] = [[], []];
  const endMs = performance.now() + TIMING_MS;
  for (let run = 0; run < RUNS_MAX && (run < RUNS_MIN || performance.now() < endMs); run++) {
    for (const turn of [0, 1] as const) {
      const given = copyOf(turn === 0 ? feeds : others);
      const startMs = performance.now();
      await sessions[turn]!.run(given);
      // The first runs lay out memory.
      if (run >= 5) times[turn].push(performance.now() - startMs);
    }
  }
  for (const session of sessions) await session.release();
  return [medianOf(times[0]), medianOf(times[1])];
}

const medianOf = (times: readonly number[]): number => times.toSorted((a, b) => a - b)[times.length >> 1] ?? NaN;
