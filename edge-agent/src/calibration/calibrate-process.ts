// The process that calibrates one version, and ends. It ends with its parent, too.
import { halfTensor, type TypedTensor } from '@commonweight/client-sdk';
import { Calibrator, calibrationGraph, contractOf, float16Bits, readModel, writeModel } from '@commonweight/core';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { exampleInputs } from '../data/example-inputs.ts';
import { loadDataset } from '../data/load-dataset.ts';
import type { CalibrationJob, CalibrationOutcome, FromCalibration } from './messages.ts';

/** Examples that are run at once, where the model takes more than one. */
const BATCH = 32;

async function outcomeOf({ data, onnx, examplesMax, binsMax, threads }: CalibrationJob): Promise<CalibrationOutcome> {
  const set = await loadDataset(data);
  const { model, values } = calibrationGraph(readModel(onnx));
  const { inputs } = contractOf(model);
  const session = await InferenceSession.create(writeModel(model), {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  });
  const calibrator = new Calibrator(values);
  const examples = spread(set.examples, examplesMax);
  const rows = inputs.every(({ dims }) => (dims[0] ?? -1) < 0) ? BATCH : 1;
  for (let start = 0; start < examples.length; start += rows) {
    const tensors = Object.entries(exampleInputs(set, inputs, examples.slice(start, start + rows)));
    const given = Object.fromEntries(tensors.map(([name, tensor]) => [name, tensorOf(tensor)]));
    const all = Object.entries({ ...given, ...(await session.run(given)) }) as [string, Tensor][];
    calibrator.add(new Map(all.flatMap(([name, { data: own }]) => (own instanceof Float32Array ? [[name, own]] : []))));
  }
  await session.release();
  return { examples: examples.length, states: calibrator.states(binsMax) };
}

/** Indices over the whole of the data: what is sorted by label must not be seen of one alone. */
function spread(examples: number, examplesMax: number): number[] {
  const count = Math.min(examples, examplesMax);
  return Array.from({ length: count }, (_, index) => Math.floor((index * examples) / count));
}

/** Apps have halves as floats, and the runtime takes their bits. */
function tensorOf({ type, data, dims }: TypedTensor): Tensor {
  if (type === 'float16') return halfTensor(Tensor, Uint16Array.from(data as Float32Array, float16Bits), dims);
  return new Tensor(type, data as Tensor.DataTypeMap[typeof type], dims) as Tensor;
}

process.on('SIGINT', () => {});
process.on('disconnect', () => process.exit(0));
process.once('message', (job: CalibrationJob) => {
  outcomeOf(job)
    .then(
      (outcome): FromCalibration => ({ outcome }),
      (error: unknown): FromCalibration => ({ failure: (error as Error).message }),
    )
    .then((message) => process.send?.(message, undefined, undefined, () => process.exit(0)))
    .catch(() => process.exit(1));
});
