import type { TrainingPlan } from '@commonweight/core';
import type { RunsOn } from './engines.ts';
import type { MadeReport, ReportJob } from './reports.ts';

/** One training, as the process that does it gets it. */
export interface TrainingJob {
  /** ONNX graph without the weights. */
  graph: Uint8Array;
  weights: Float32Array;
  plan: TrainingPlan;
  /** Of the order of examples. */
  seed: bigint;
  /** Where a proximal term pulls to, where that is not `weights`. */
  anchor?: Float32Array;
  /** What is added to every gradient, where the plan's local method corrects them. */
  correction?: Float32Array;
  /** Whether the loss of `weights` is measured first. */
  needsBaseLoss?: boolean;
}

export interface TrainingResult {
  weights: Float32Array;
  /** Mean loss of the last epoch. */
  loss: number;
  /** Mean loss of the weights that the training began with, where it was asked for. */
  baseLoss?: number;
  examples: number;
  steps: number;
  ms: number;
  /** Of the weights that the training began with, on examples that were set aside; empty where the plan measures nothing. */
  metrics?: Readonly<Record<string, number>>;
}

export type ToTrainer =
  | { type: 'open'; data: string; on: RunsOn }
  | { type: 'train'; id: number; job: TrainingJob }
  | { type: 'report'; id: number; job: ReportJob }
  | { type: 'stop'; id: number };

export type FromTrainer =
  | { type: 'opened'; examples: number }
  | { type: 'refused'; reason: string }
  | { type: 'trained'; id: number; result: TrainingResult }
  | { type: 'reported'; id: number; result: MadeReport }
  | { type: 'failed'; id: number; reason: string };
