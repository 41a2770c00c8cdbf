import type { Dataset, Evaluation, MeasuredBy, UpdateAssignment } from '@commonweight/edge-agent';

/** What a worker has from the beginning: graph and data are shared memory, so that no worker has a copy. */
export interface WorkerSetup {
  graph: Uint8Array;
  train: Dataset;
  test: Dataset;
  /** Examples of each client. */
  parts: readonly Int32Array[];
  /** Clients whose labels are turned around. */
  flipped: readonly number[];
  /** How versions are measured. */
  plan: MeasuredBy;
  /** An ONNX file whose answers clients learn from. */
  teacher?: Uint8Array;
}

/** One client's part of a round. */
export interface ClientJob {
  type: 'client';
  id: number;
  client: number;
  agentId: string;
  assignment: UpdateAssignment;
  baseVersion: number;
  base: Float32Array;
  memory: readonly Float32Array[];
  /** Files of what the client kept, by name; and where the new ones go. */
  kept: Readonly<Record<string, string>>;
  keepAs: string;
}

export interface ClientResult {
  /** Before it was compressed. */
  payload: Uint8Array;
  /** Bytes that go over the wire. */
  sentBytes: number;
  updateId: Uint8Array;
  /** Examples that the update claims to speak for. */
  examples: number;
  loss: number;
  steps: number;
  /** Files that were written, by name. */
  kept: Record<string, string>;
}

/** Measures weights on a range of examples. */
export interface EvaluateJob {
  type: 'evaluate';
  id: number;
  weights: Float32Array;
  /** Indices of the test set. */
  examples: Int32Array;
}

/** `end`: releases what it holds, and ends. */
export type ToWorker = ClientJob | EvaluateJob | { type: 'end' };

export type FromWorker = { id: number; result: ClientResult | Evaluation } | { id: number; failure: string };
