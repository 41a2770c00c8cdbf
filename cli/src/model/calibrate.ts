import {
  calibrationGraph,
  Calibrator,
  type CalibrationOptions,
  type ModelProto,
  type QuantizeOptions,
  type Range,
} from '@commonweight/core';
import type { ModelRunner, Samples } from './run-model.ts';

/** Ranges of the values that the static int8 form rounds, as a model's answers to samples show them. */
export async function calibrated(
  runner: ModelRunner,
  model: ModelProto,
  samples: Samples,
  {
    method = 'minmax',
    percentile,
    onBatch = () => {},
    ...settings
  }: QuantizeOptions & CalibrationOptions & { onBatch?: (done: number, of: number) => void } = {},
): Promise<Map<string, Range>> {
  const { model: graph, values } = calibrationGraph(model, settings);
  const calibrator = new Calibrator(values);
  let done = 0;
  for await (const tensors of runner.run(graph, samples)) {
    calibrator.add(tensors);
    onBatch((done += 1), samples.batches.length);
  }
  return calibrator.ranges({ method, ...(percentile === undefined ? {} : { percentile }) });
}
