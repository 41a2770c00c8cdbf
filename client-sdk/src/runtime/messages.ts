import type { EngineName } from './engine.ts';
import type { TypedTensor } from './tensor.ts';

/** What the worker is asked to do. */
export type WorkerRequest =
  | { kind: 'about' }
  | { kind: 'load'; model: string | Uint8Array; threads: number; engine: EngineName }
  | { kind: 'run'; session: number; feeds: Record<string, TypedTensor> }
  | { kind: 'time'; session: number; feeds: Record<string, TypedTensor>; runs: number }
  | { kind: 'release'; session: number }
  | { kind: 'shut-down' };

/** What it has to say to each. */
export type WorkerResult =
  | { runtime: string }
  | { session: number }
  | { outputs: Record<string, TypedTensor> }
  | { ms: number }
  | { done: true };

/** What it answers: by the number of the request. */
export type WorkerReply = { id: number } & (WorkerResult | { error: string });
