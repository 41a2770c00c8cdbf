import { ConfigError } from '../errors.ts';
import type { RandomStream } from '../random/stream.ts';

/** What a score is: a larger one is better. */
export type ScoreName = 'accuracy' | 'mse';

export const scoreNames: readonly ScoreName[] = ['accuracy', 'mse'];

/** Rows of a table with what is known of each. */
export interface LabelledRows {
  /** All rows, one after the other. */
  inputs: Float32Array;
  labels: ArrayLike<number>;
}

/** What one column of a table is worth to a model. */
export interface Importance {
  column: number;
  /** By how much the score falls when the column says nothing, on the mean over all turns. */
  drop: number;
  /** Standard deviation of that over the turns. */
  spread: number;
}

/** The rows with one column in another order, so that it says nothing of them while it looks as it did. */
export function withShuffledColumn(
  { inputs, labels }: LabelledRows,
  column: number,
  random: RandomStream,
): Float32Array {
  const width = inputs.length / labels.length;
  const shuffled = inputs.slice();
  const order = random.shuffle(Array.from({ length: labels.length }, (_, row) => row));
  order.forEach((from, row) => (shuffled[row * width + column] = inputs[from * width + column]!));
  return shuffled;
}

/** How good answers are: the share of rows whose largest value is the label's, or minus the mean squared error. A row with NaN is wrong. */
export function scoreOf(score: ScoreName, answers: ArrayLike<number>, labels: ArrayLike<number>): number {
  const width = answers.length / labels.length;
  if (score === 'mse') {
    if (width !== 1) throw new ConfigError(`mse is for one number a row, and the model answers with ${width}`, 'score');
    let sum = 0;
    for (let row = 0; row < labels.length; row++) sum += (answers[row]! - labels[row]!) ** 2;
    return -sum / labels.length;
  }
  let right = 0;
  for (let row = 0; row < labels.length; row++) {
    let best = row * width;
    let isNumber = true;
    for (let at = best; at < (row + 1) * width; at++) {
      if (answers[at]! > answers[best]!) best = at;
      isNumber &&= !Number.isNaN(answers[at]!);
    }
    // A single number is a yes or no, with zero between them, as logits have it.
    const said = width === 1 ? Number(answers[best]! > 0) : best - row * width;
    if (isNumber && said === labels[row]) right += 1;
  }
  return right / labels.length;
}

/** Mean and spread of how far the scores of the turns are below the score of the rows as they are. */
export function importanceOf(column: number, score: number, turns: readonly number[]): Importance {
  const drops = turns.map((turn) => score - turn);
  const drop = drops.reduce((sum, each) => sum + each, 0) / drops.length;
  const variance = drops.reduce((sum, each) => sum + (each - drop) ** 2, 0) / drops.length;
  return { column, drop, spread: Math.sqrt(variance) };
}
