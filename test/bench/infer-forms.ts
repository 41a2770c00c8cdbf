/** Forms of one model, turn by turn on one thread: latency, size, and accuracy on examples that none was made of. */
import {
  calibrationGraph,
  Calibrator,
  quantizeModel,
  writeModel,
  type ModelProto,
  type QuantizedForm,
  type Range,
} from '@commonweight/core';
import type { Dataset } from '@commonweight/edge-agent';
import * as ort from 'onnxruntime-node';
import { accuracyOf, examplesOf, openSession, outputsOf } from '../support/digit-models.ts';

const TURNS = 40;
const RUNS_PER_TURN = 20;
/** Runs of a turn that bring the weights back into the caches. */
const WARM_UP = 3;
const CALIBRATION = 256;

/** One form of a model, measured. */
export interface FormFigures {
  name: string;
  bytes: number;
  p50Ms: number;
  p99Ms: number;
  /** Share of right answers on the test set. */
  accuracy: number;
}

/** A model beside others that were made of it. */
export interface Subject {
  model: ModelProto;
  dims: readonly number[];
  forms: readonly QuantizedForm[];
  /** Further models that answer the same. */
  others?: Readonly<Record<string, ModelProto>>;
}

/** The forms of the model, by name. */
export async function modelsOf(
  { model, dims, forms, others = {} }: Subject,
  train: Dataset,
): Promise<Map<string, ModelProto>> {
  const ranges = await rangesOf(model, dims, train);
  return new Map([
    ['float32', model],
    ...forms.map((form) => [form, quantizeModel(model, form, { ranges }).model] as const),
    ...Object.entries(others),
  ]);
}

export async function measuredForms(
  models: ReadonlyMap<string, ModelProto>,
  dims: readonly number[],
  test: Dataset,
): Promise<FormFigures[]> {
  const { inputs, labels } = examplesOf(test, 0, test.examples);
  const times = await latencies([...models.values()], inputs.slice(0, inputs.length / test.examples), [1, ...dims]);
  const figures: FormFigures[] = [];
  for (const [name, model] of models) {
    const logits = (await outputsOf(model, inputs.slice(), [test.examples, ...dims])).get('logits')!;
    const own = times[figures.length]!.toSorted((a, b) => a - b);
    figures.push({
      name,
      bytes: writeModel(model).length,
      p50Ms: quantile(own, 0.5),
      p99Ms: quantile(own, 0.99),
      accuracy: accuracyOf(logits, labels),
    });
  }
  return figures;
}

async function rangesOf(model: ModelProto, dims: readonly number[], train: Dataset): Promise<Map<string, Range>> {
  const { model: graph, values } = calibrationGraph(model);
  const calibrator = new Calibrator(values);
  const { inputs } = examplesOf(train, 0, CALIBRATION);
  calibrator.add(new Map([...(await outputsOf(graph, inputs.slice(), [CALIBRATION, ...dims])), ['input', inputs]]));
  return calibrator.ranges();
}

/**
 * Milliseconds of each run of each model. They take turns of a few runs, so that a change of the machine's speed meets
 * all alike, while the weights are in the caches as they are when an app asks again and again.
 */
async function latencies(
  models: readonly ModelProto[],
  input: Float32Array,
  dims: readonly number[],
): Promise<number[][]> {
  const sessions: ort.InferenceSession[] = [];
  for (const model of models) sessions.push(await openSession(model));
  const times = sessions.map((): number[] => []);
  const feeds = { input: new ort.Tensor('float32', input, dims) };
  for (let turn = 0; turn < TURNS; turn++) {
    for (const [index, session] of sessions.entries()) {
      for (let run = 0; run < WARM_UP + RUNS_PER_TURN; run++) {
        const startMs = performance.now();
        await session.run(feeds);
        if (run >= WARM_UP) times[index]!.push(performance.now() - startMs);
      }
    }
  }
  for (const session of sessions) await session.release();
  return times;
}

const quantile = (sorted: readonly number[], share: number): number => sorted[Math.floor((sorted.length - 1) * share)]!;
