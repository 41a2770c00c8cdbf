import type { TrainingPlan } from '@commonweight/core';
import type { EngineName } from './engine.ts';
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
  /** Whose answers the plan's distillation learns from. */
  teacher?: Teacher;
}

/** A whole model whose answers a training learns from besides the labels. */
export interface Teacher {
  /** Equal for equal graph and weights. */
  key: string;
  /** The ONNX file; left out where the one who trains has it. */
  onnx?: Uint8Array;
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
  engine: EngineName;
  /** Operators that the engine lacks, so that they ran on the CPU. */
  elsewhere: readonly string[];
}

/** How much of the CPU a training may have. */
export interface CpuBudget {
  threads: number;
  /** Share of the time that they may be busy, above 0 and up to 1. */
  busy: number;
}

/** `data` is what the process finds the examples by. */
export type ToTrainer<Data> =
  | { type: 'open'; data: Data; engine: EngineName; budget: CpuBudget }
  | { type: 'train'; id: number; job: TrainingJob }
  | { type: 'report'; id: number; job: ReportJob }
  /** Nobody waits any more for what it is at. */
  | { type: 'stop'; id: number };

export type FromTrainer =
  | { type: 'opened'; examples: number }
  | { type: 'refused'; reason: string }
  /** Steps are taken, or a graph was compiled: the process does not hang. */
  | { type: 'progress'; id: number }
  | { type: 'trained'; id: number; result: TrainingResult }
  | { type: 'reported'; id: number; result: MadeReport }
  /** `isEngines`: the engine failed, not what it was asked for. */
  | { type: 'failed'; id: number; reason: string; isEngines: boolean };
