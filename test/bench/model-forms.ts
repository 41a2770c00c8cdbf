/** Makes forms of a model, and runs them in stock onnxruntime on one thread. */
import {
  calibrationGraph,
  Calibrator,
  decibels,
  excludeUntil,
  NoiseMeter,
  noiseProbe,
  QuantizeError,
  quantizeModel,
  writeModel,
  type ModelProto,
  type QuantizedForm,
  type QuantizedModel,
  type Range,
} from '@commonweight/core';
import type * as ort from 'onnxruntime-node';
import { openSession } from '../support/digit-models.ts';
import type { Feeds } from './model-subjects.ts';

/** A form that was made and that onnxruntime loads. */
export interface Form {
  form: QuantizedForm;
  bytes: Uint8Array;
  /** Of the worst output over all inputs, against float32. */
  sqnrDb: number;
  /** How many were quantized. */
  layers: number;
  /** How many of the noisiest were left as they were for the sake of the outputs, and what these would have been with them. */
  left: number;
  allDb: number;
}

/** A form, or why there is none. */
export type Tried = Form | { form: QuantizedForm; refused: string };

export interface Wanted {
  forms: readonly QuantizedForm[];
  calibration: readonly Feeds[];
  /** What the outputs are compared on. */
  inputs: readonly Feeds[];
  minDb: Readonly<Record<QuantizedForm, number>>;
}

type Outputs = Map<string, Float32Array>[];

export async function formsOf(model: ModelProto, wanted: Wanted): Promise<Tried[]> {
  const exact = await outputsOf(model, wanted.inputs);
  const sqnrOf = async (bytes: Uint8Array): Promise<number> => worstDb(exact, await outputsOf(bytes, wanted.inputs));
  const tried: Tried[] = [];
  for (const form of wanted.forms) {
    try {
      const ranges = form === 'static-int8' ? await rangesOf(model, wanted.calibration) : new Map<string, Range>();
      const all = quantizeModel(model, form, { ranges });
      const allDb = await sqnrOf(writeModel(all.model));
      const isCalibrated = form === 'static-int8' && allDb < wanted.minDb[form];
      const { quantized, left } = isCalibrated
        ? await withoutNoisiest(model, all, ranges, wanted)
        : { quantized: all, left: 0 };
      const bytes = writeModel(quantized.model);
      tried.push({ form, bytes, sqnrDb: await sqnrOf(bytes), layers: quantized.layers.length, left, allDb });
    } catch (error) {
      if (!(error instanceof QuantizeError)) throw error;
      tried.push({ form, refused: error.message });
    }
  }
  return tried;
}

/** Decibels above the bound that calibration inputs must show, as those that are measured on are others. */
const RESERVE_DB = 2;

/**
 * As few of the noisiest layers left as calibration inputs say that it takes; measured inputs have no say in it. All layers again where no
 * number of them is enough.
 */
async function withoutNoisiest(
  model: ModelProto,
  all: QuantizedModel,
  ranges: ReadonlyMap<string, Range>,
  { calibration, minDb }: Wanted,
): Promise<{ quantized: QuantizedModel; left: number }> {
  const probe = noiseProbe(model, 'static-int8', { ranges });
  const meter = new NoiseMeter(probe);
  for (const outputs of await outputsOf(probe.model, calibration)) meter.add(outputs);
  const exact = await outputsOf(model, calibration);
  const without = (keep: ReadonlySet<string>): QuantizedModel => quantizeModel(model, 'static-int8', { ranges, keep });
  try {
    const keep = await excludeUntil(meter.report(), async (left) => {
      const found = await outputsOf(without(left).model, calibration);
      return worstDb(exact, found) >= minDb['static-int8'] + RESERVE_DB;
    });
    return { quantized: without(keep), left: keep.size };
  } catch (error) {
    if (!(error instanceof QuantizeError)) throw error;
    return { quantized: all, left: 0 };
  }
}

async function rangesOf(model: ModelProto, calibration: readonly Feeds[]): Promise<Map<string, Range>> {
  const { model: graph, values } = calibrationGraph(model);
  const calibrator = new Calibrator(values);
  const outputs = await outputsOf(graph, calibration);
  calibration.forEach((feeds, index) => calibrator.add(new Map([...floatsOf(feeds), ...outputs[index]!])));
  return calibrator.ranges();
}

/** The float outputs for each of the inputs. */
async function outputsOf(model: ModelProto | Uint8Array, inputs: readonly Feeds[]): Promise<Outputs> {
  const session = await openSession(model);
  const outputs: Outputs = [];
  for (const feeds of inputs) outputs.push(floatsOf(await session.run(feeds)));
  await session.release();
  return outputs;
}

const floatsOf = (tensors: Readonly<Record<string, ort.OnnxValue>>): Map<string, Float32Array> =>
  new Map(
    Object.entries(tensors).flatMap(([name, { data }]): [string, Float32Array][] =>
      data instanceof Float32Array ? [[name, data]] : [],
    ),
  );

/** Signal to noise of the output that has the least, over all inputs. */
function worstDb(exact: Outputs, found: Outputs): number {
  const names = [...(exact[0]?.keys() ?? [])];
  const all = names.map((name) => {
    let [signal, noise] = [0, 0];
    exact.forEach((outputs, index) => {
      const others = found[index]!.get(name)!;
      outputs.get(name)!.forEach((value, at) => {
        signal += value ** 2;
        noise += (value - others[at]!) ** 2;
      });
    });
    return decibels(signal, noise);
  });
  return Math.min(...all);
}

const TURNS = 20;
const RUNS_PER_TURN = 5;
/** Runs of a turn that bring the weights back into the caches. */
const WARM_UP = 2;

/** Median milliseconds of one run of each on one thread, turn by turn, so that a change of the machine's speed meets all alike. */
export async function medianMs(models: readonly Uint8Array[], feeds: Feeds, quick: boolean): Promise<number[]> {
  const sessions: ort.InferenceSession[] = [];
  for (const model of models) sessions.push(await openSession(model));
  const times = sessions.map((): number[] => []);
  for (let turn = 0; turn < (quick ? 3 : TURNS); turn++) {
    for (const [index, session] of sessions.entries()) {
      for (let run = 0; run < WARM_UP + RUNS_PER_TURN; run++) {
        const startMs = performance.now();
        await session.run(feeds);
        if (run >= WARM_UP) times[index]!.push(performance.now() - startMs);
      }
    }
  }
  for (const session of sessions) await session.release();
  return times.map((all) => all.toSorted((a, b) => a - b)[all.length >> 1]!);
}
