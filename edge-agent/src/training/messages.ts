import type { TrainingPlan } from '@commonweight/core';

/** One training, as the process that does it gets it. */
export interface TrainingJob {
  /** ONNX graph without the weights. */
  graph: Uint8Array;
  weights: Float32Array;
  plan: TrainingPlan;
  /** Of the order of examples. */
  seed: bigint;
}

export interface TrainingResult {
  weights: Float32Array;
  /** Mean loss of the last epoch. */
  loss: number;
  examples: number;
  steps: number;
  ms: number;
}

export type ToTrainer =
  { type: 'open'; data: string; threads: number } | { type: 'train'; id: number; job: TrainingJob };

export type FromTrainer =
  | { type: 'opened'; examples: number }
  | { type: 'refused'; reason: string }
  | { type: 'trained'; id: number; result: TrainingResult }
  | { type: 'failed'; id: number; reason: string };
