import type { EngineName } from './training/engine.ts';

/** What an agent tells its operator. */
export type AgentEvent =
  | { type: 'data'; examples: number }
  | { type: 'connected'; coordinator: string }
  | { type: 'disconnected'; coordinator: string; why: string; retryMs: number }
  /** The coordinator does not need it for now, or has no room. */
  | { type: 'away'; coordinator: string; why: string; returnMs: number }
  /** `work` is 'train', 'evaluate' or 'statistics'. */
  | { type: 'assignment'; model: string; task: string; round: number; version: number; work: string }
  /** The teacher of a task was handed to the process that trains. */
  | { type: 'teacher'; model: string; version: number }
  /** The coordinator was told how large a version's activations are here. */
  | { type: 'calibrated'; model: string; version: number; examples: number }
  /** The coordinator was told how a version's forms answer here, beside float32. */
  | { type: 'measured'; model: string; version: number; forms: readonly string[]; examples: number }
  | { type: 'trained'; task: string; round: number; loss: number; examples: number; steps: number; trainMs: number }
  | { type: 'reported'; task: string; round: number; work: string; version: number; examples: number; ms: number }
  | { type: 'counted'; task: string; round: number; updateId: string }
  | { type: 'stopped'; task: string; round: number; why: string }
  /** What trains, where that is not the CPU or has changed, and the operators that it lacks: they run on the CPU. */
  | { type: 'engine'; engine: EngineName; elsewhere: readonly string[] }
  | { type: 'uploaded'; task: string; round: number; bytes: number; updateId: string }
  | { type: 'receipt'; task: string; round: number; version: number; updateId: string }
  | { type: 'rejected'; task: string; round: number; reason: string; updateId: string }
  | { type: 'failure'; task: string; round: number; reason: string }
  | { type: 'warning'; text: string };
