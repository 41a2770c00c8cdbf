import type { TypedTensor } from './tensor.ts';

/** What the worker is asked to do. */
export type WorkerRequest =
  | { kind: 'load'; model: string | Uint8Array; threads: number }
  | { kind: 'run'; session: number; feeds: Record<string, TypedTensor> }
  | { kind: 'release'; session: number }
  | { kind: 'shut-down' };

/** What it answers: by the number of the request. */
export type WorkerReply =
  | { id: number; session: number }
  | { id: number; outputs: Record<string, TypedTensor> }
  | { id: number; done: true }
  | { id: number; error: string };
