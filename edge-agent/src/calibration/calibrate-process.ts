// The process that calibrates one version, and ends. It ends with its parent, too.
import { Calibrator, calibrationGraph, contractOf, readModel, writeModel, type TensorSpec } from '@commonweight/core';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { DataError, type Dataset } from '../data/dataset.ts';
import { loadDataset } from '../data/load-dataset.ts';
import type { CalibrationJob, CalibrationOutcome, FromCalibration } from './messages.ts';

/** Examples that are run at once, where the model takes more than one. */
const BATCH = 32;

async function outcomeOf({ data, onnx, examplesMax, binsMax, threads }: CalibrationJob): Promise<CalibrationOutcome> {
  const set = await loadDataset(data);
  const { model, values } = calibrationGraph(readModel(onnx));
  const [input, ...others] = contractOf(model).inputs;
  if (input === undefined || others.length > 0) throw new DataError('the model has more than one input');
  const session = await InferenceSession.create(writeModel(model), {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  });
  const calibrator = new Calibrator(values);
  const examples = spread(set.examples, examplesMax);
  const rows = (input.dims[0] ?? -1) < 0 ? BATCH : 1;
  for (let start = 0; start < examples.length; start += rows) {
    const given = { [input.name]: tensorOf(set, examples.slice(start, start + rows), input) };
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

function tensorOf(
  { inputs, examples }: Dataset,
  indices: readonly number[],
  { name, dtype, dims }: TensorSpec,
): Tensor {
  const size = inputs.length / examples;
  const shape = dims.map((dim, axis) => (axis === 0 ? indices.length : dim));
  if (shape.reduce((product, dim) => product * dim, 1) !== size * indices.length) {
    throw new DataError(
      `an example has ${size} values and '${name}' takes [${dims.join(', ')}]: use data that fits the model`,
    );
  }
  const values = new Float32Array(indices.length * size);
  indices.forEach((index, row) => values.set(inputs.subarray(index * size, (index + 1) * size), row * size));
  if (dtype === 'float') return new Tensor('float32', values, shape);
  if (dtype !== 'int64') throw new DataError(`'${name}' holds ${dtype}, and data gives numbers`);
  return new Tensor(
    'int64',
    BigInt64Array.from(values, (value) => BigInt(Math.trunc(value))),
    shape,
  );
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
