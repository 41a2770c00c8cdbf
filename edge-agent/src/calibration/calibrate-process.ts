// The process that calibrates one version, and ends.
import { Calibrator, calibrationGraph, contractOf, readModel, writeModel } from '@commonweight/core';
import type { Tensor } from 'onnxruntime-node';
import { loadDataset } from '../data/load-dataset.ts';
import { answerOnce } from '../own-process/answer.ts';
import { feedsOf, openSession } from '../own-process/run-examples.ts';
import type { CalibrationJob, CalibrationOutcome } from './messages.ts';

/** Examples that are run at once, where the model takes more than one. */
const BATCH = 32;

answerOnce(async ({ data, onnx, examplesMax, binsMax, threads }: CalibrationJob): Promise<CalibrationOutcome> => {
  const set = await loadDataset(data);
  const { model, values } = calibrationGraph(readModel(onnx));
  const { inputs } = contractOf(model);
  const session = await openSession(writeModel(model), threads);
  const calibrator = new Calibrator(values);
  const examples = spread(set.examples, examplesMax);
  const rows = inputs.every(({ dims }) => (dims[0] ?? -1) < 0) ? BATCH : 1;
  for (let start = 0; start < examples.length; start += rows) {
    const given = feedsOf(set, inputs, examples.slice(start, start + rows));
    const all = Object.entries({ ...given, ...(await session.run(given)) }) as [string, Tensor][];
    calibrator.add(new Map(all.flatMap(([name, { data: own }]) => (own instanceof Float32Array ? [[name, own]] : []))));
  }
  await session.release();
  return { examples: examples.length, states: calibrator.states(binsMax) };
});

/** Indices over the whole of the data: what is sorted by label must not be seen of one alone. */
function spread(examples: number, examplesMax: number): number[] {
  const count = Math.min(examples, examplesMax);
  return Array.from({ length: count }, (_, index) => Math.floor((index * examples) / count));
}
