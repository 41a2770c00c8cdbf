import type { AttributionMethod } from '@commonweight/core';
import type { Inputs } from '../model/inputs.ts';
import type { Tensor } from '../runtime/tensor.ts';

/** How an answer is explained. */
export interface ExplainOptions {
  /** `integrated-gradients` (Sundararajan et al. 2017), or `gradient-x-input`, which takes one gradient and has no axioms. */
  method?: AttributionMethod;
  /** Gradients that integrated gradients take; more make the gap smaller. 32 where nobody says. */
  steps?: number;
  /** What the example is compared with: one number (or token) everywhere, or a row by the inputs' names. Zero where nobody says. */
  baseline?: number | Inputs;
  /** The output that is explained; the first one of float numbers where nobody says. */
  output?: string;
  /** Which of the output's values, by its place in one example; each example's largest where nobody says. */
  index?: number;
}

/** The explained value of one example. */
export interface ExplainedRow {
  index: number;
  value: number;
  /** What the model says of the baseline. */
  baselineValue: number;
  /** By how much the attributions' sum misses `value - baselineValue`. */
  gap: number;
}

/** Which inputs made the answers what they are. */
export interface Explanation {
  version: number;
  method: AttributionMethod;
  steps: number;
  output: string;
  rows: ExplainedRow[];
  /** The examples as the model takes them: of an image, its numbers. */
  inputs: Record<string, Tensor>;
  /** In the inputs' shapes: how much each number, or token, adds to the explained value. An input that has no part in it is missing. */
  attributions: Record<string, Tensor>;
}
