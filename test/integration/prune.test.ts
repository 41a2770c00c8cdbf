/** A model of which much was taken away learns again what it lost. */
import { loadDataset, subset, type Dataset } from '@commonweight/edge-agent';
import { cnn, costOf, pruneChannels, type ModelProto } from '@commonweight/core';
import { expect, test } from 'vitest';
import { accuracyOf, examplesOf, outputsOf, trainedOn } from '../support/digit-models.ts';

async function rightOn(model: ModelProto, data: Dataset): Promise<number> {
  const { inputs, labels } = examplesOf(data, 0, data.examples);
  const outputs = await outputsOf(model, inputs, [data.examples, 1, 28, 28]);
  return accuracyOf([...outputs.values()][0]!, labels);
}

test('half of the channels of a trained CNN go, and a little training brings the accuracy back', async () => {
  const [train, held] = [await loadDataset('mnist'), await loadDataset('mnist?split=test')];
  const some = subset(
    held,
    Array.from({ length: 500 }, (_, index) => index),
  );
  const whole = cnn({
    height: 28,
    width: 28,
    channels: 1,
    filters: [8, 16],
    kernel: 3,
    dense: 64,
    outputs: 10,
    seed: 1,
  });
  const trained = await trainedOn(train, whole, 200);
  const { model: half } = pruneChannels(trained, { sparsity: 0.5 });
  const tuned = await trainedOn(train, half, 100);
  const [before, cut, after] = [await rightOn(trained, some), await rightOn(half, some), await rightOn(tuned, some)];
  console.log(`accuracy: ${before} whole, ${cut} with half of the channels, ${after} after 100 steps`);
  expect(costOf(trained).parameters / costOf(half).parameters).toBeGreaterThan(3);
  expect(costOf(trained).operations! / costOf(half).operations!).toBeGreaterThan(2.5);
  expect(cut).toBeLessThan(before);
  expect(after).toBeGreaterThan(before - 0.05);
});
