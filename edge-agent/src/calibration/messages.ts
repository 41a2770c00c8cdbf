import type { HistogramState } from '@commonweight/core';

/** A version, and how much of the data it is to be run on. */
export interface CalibrationJob {
  /** Data specification, see loadDataset. */
  data: string;
  /** An ONNX file. */
  onnx: Uint8Array;
  examplesMax: number;
  binsMax: number;
  threads: number;
}

/** How large the values that the static form rounds were, and on how many examples. */
export interface CalibrationOutcome {
  examples: number;
  states: ReadonlyMap<string, HistogramState>;
}
