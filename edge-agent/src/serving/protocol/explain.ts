import type { ExplainOptions, Explanation, Importances } from '@commonweight/client-sdk';
import type { ScoreName } from '@commonweight/core';
import type { NamedTensor } from './request.ts';

/** One request for an explanation. */
export interface ExplainRequest extends Omit<ExplainOptions, 'baseline'> {
  inputs: readonly NamedTensor[];
  /** One number everywhere, or one example. */
  baseline?: number | readonly NamedTensor[];
}

export interface ExplainAnswer extends Explanation {
  model: string;
}

/** One request for what the columns of a table are worth. */
export interface ImportanceRequest {
  inputs: readonly NamedTensor[];
  /** A class or a number for each row. */
  labels: readonly number[];
  score: ScoreName;
  /** How often each column is shuffled. */
  repeats: number;
}

export interface ImportanceAnswer extends Omit<Importances, 'score'> {
  model: string;
  score: ScoreName;
  /** Of the table as it is. */
  value: number;
  rows: number;
}
