import type { TypedTensor } from '@commonweight/client-sdk';
import type { StepForms, StepGraph } from '@commonweight/core';

/** What trains: ONNX Runtime by one of its providers, in WebAssembly, or TensorFlow.js. */
export type EngineName = 'ort-cpu' | 'ort-webgpu' | 'ort-cuda' | 'ort-dml' | 'ort-coreml' | 'ort-web' | 'tfjs';

/** What one step is given, by the names of the inputs. */
export type Feeds = Readonly<Record<string, TypedTensor>>;
/** Numbers by the names of values. */
export type Values = Readonly<Record<string, Float32Array>>;

/** A graph that an engine has compiled, with the values that it keeps from step to step. */
export interface Program {
  /** How many steps `run` likes to be given at once. */
  readonly stepsAtOnce: number;
  /** Operators that did not run where the engine runs, but on the CPU beside it. Known after the first run. */
  readonly elsewhere: readonly string[];
  /** Sets kept inputs; the numbers are copied. */
  write(values: Values): void;
  /** Takes steps, one after the other, and answers the outputs of each. */
  run(steps: readonly Feeds[]): Promise<Values[]>;
  /** The outputs of a step that is not taken. */
  measure(step: Feeds): Promise<Values>;
  /** The numbers of all kept values that steps change, by the names of their inputs. */
  read(): Promise<Values>;
  release(): Promise<void>;
}

/** A graph that is only run: its values may be of any type, texts as well. */
export interface Runnable {
  run(feeds: Feeds): Promise<Readonly<Record<string, TypedTensor>>>;
  release(): Promise<void>;
}

/** Compiles graphs and runs them. One lives in a process, or in a browser's worker, of its own. */
export interface Engine {
  readonly name: EngineName;
  /** The library that computes, where there are several. */
  readonly runsOn?: string;
  /** How its graphs want to be written. */
  readonly forms: StepForms;
  compile(graph: StepGraph): Promise<Program>;
  /** Loads what stands in front of a model, which runs on the CPU whatever trains, as it does where models are served. */
  load(model: Uint8Array): Promise<Runnable>;
  release(): Promise<void>;
}

/** The engine failed, not what it was asked for: another one may do it. */
export class EngineError extends Error {
  override name = 'EngineError';
}

/** Whether what trained had no memory left, also outside of the runtime: V8 says so where a message of it could not be written. */
export const isOutOfMemory = (error: unknown): boolean =>
  error instanceof Error && /out of memory|Array buffer allocation failed/i.test(error.message);

export const asEngineError = (cause: unknown): EngineError => new EngineError(plainReason(cause), { cause });

/** What an engine does: whatever goes wrong there is told as an EngineError. */
export async function byEngine<T>(deed: () => Promise<T> | T): Promise<T> {
  try {
    return await deed();
  } catch (cause) {
    throw asEngineError(cause);
  }
}

/** What is wrong, without where in the source of ONNX Runtime it was found. */
export function plainReason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const [, bytes] = /Failed to allocate memory for requested buffer of size (\d+)/.exec(text) ?? [];
  if (bytes !== undefined) return `out of memory: no buffer of ${bytes} bytes could be had`;
  if (/bad_alloc|bad allocation/.test(text) || isOutOfMemory(error)) return 'out of memory';
  const [first = ''] = text.split('\n');
  return first.replace(/^.*::.* was (?:false|true)\. /, '').slice(0, 300);
}
