import type { StepForms, StepGraph } from '@commonweight/core';
import type { Engine, EngineName, Program, Runnable } from '../engine.ts';
import { OrtProgram, type OrtRuntime } from './ort-program.ts';
import { OrtRunnable } from './ort-runnable.ts';

/** ONNX Runtime as an engine. */
export class OrtTrainingEngine implements Engine {
  readonly name: EngineName;
  readonly forms: StepForms;
  readonly #runtime: OrtRuntime;

  constructor(name: EngineName, forms: StepForms, runtime: OrtRuntime) {
    this.name = name;
    this.forms = forms;
    this.#runtime = runtime;
  }

  compile(graph: StepGraph): Promise<Program> {
    return OrtProgram.compile(this.#runtime, graph);
  }

  load(model: Uint8Array): Promise<Runnable> {
    return OrtRunnable.load(this.#runtime, model);
  }

  release(): Promise<void> {
    return Promise.resolve();
  }
}
