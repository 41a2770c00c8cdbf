/** A small CNN that is trained on, with and without the rounding of its weights, and what its static form gets right. */
import { LoadedGraphs, loadDataset, LocalTrainer, openEngine, subset, type Dataset } from '@commonweight/edge-agent';
import {
  addRanges,
  cnn,
  joinModel,
  parsePlan,
  quantizeModel,
  rangesIn,
  readModel,
  splitModel,
  type ModelProto,
  type TrainingPlan,
  type WeightBits,
} from '@commonweight/core';
import { accuracyOf, examplesOf, outputsOf } from './digit-models.ts';

/** Shares of right answers on 1,000 held-out digits. */
export interface FewBits {
  /** Of the float32 model that was trained without rounding of weights. */
  float32: number;
  /** Of its static form, and of the form of one that was trained as long for these bits. */
  byBits: Readonly<Record<2 | 3, { without: number; trainedFor: number }>>;
}

export const smallCnn = (): ModelProto =>
  cnn({ height: 28, width: 28, channels: 1, filters: [8, 16], kernel: 3, dense: 32, outputs: 10, seed: 1 });

export const planOf = (more: object): TrainingPlan =>
  parsePlan({
    loss: 'cross-entropy',
    optimizer: { name: 'sgd', learningRate: 0.1 },
    epochs: 1,
    batchSize: 32,
    ...more,
  });

export const firstOf = (data: Dataset, count: number): Dataset =>
  subset(
    data,
    Array.from({ length: count }, (_, index) => index),
  );

/** Both learn as long, and ranges are kept the same way in both; only one knows of the rounding of weights. */
export async function fewBits(): Promise<FewBits> {
  const train = firstOf(await loadDataset('mnist'), 3000);
  const held = firstOf(await loadDataset('mnist?split=test'), 1000);
  const engine = await openEngine('ort-cpu', { threads: 1 });
  const graphs = new LoadedGraphs(engine, 2);
  const trainer = new LocalTrainer(train, graphs);
  const { graph, weights } = splitModel(addRanges(smallCnn()));
  const trained = async (from: Float32Array, plan: TrainingPlan, seed: bigint): Promise<Float32Array> =>
    (await trainer.train({ graph, weights: from, plan, seed })).weights;
  const version = (own: Float32Array): ModelProto => readModel(joinModel(readModel(graph), own));
  const staticForm = async (model: ModelProto, weightBits: WeightBits): Promise<number> =>
    await rightOn(quantizeModel(model, 'static-int8', { ranges: rangesIn(model)!, weightBits }).model, held);
  const base = await trained(weights, planOf({ epochs: 2 }), 1n);
  const slow = { optimizer: { name: 'sgd', learningRate: 0.05 } };
  const plain = version(await trained(base, planOf({ ...slow, quantizationAware: { activations: 8 } }), 2n));
  const of = async (bits: 2 | 3): Promise<{ without: number; trainedFor: number }> => {
    const aware = planOf({ ...slow, quantizationAware: { weights: bits, activations: 8 } });
    const trainedFor = await staticForm(version(await trained(base, aware, 2n)), bits);
    return { without: await staticForm(plain, bits), trainedFor };
  };
  const found = { float32: await rightOn(plain, held), byBits: { 3: await of(3), 2: await of(2) } };
  await graphs.release();
  await engine.release();
  return found;
}

export async function rightOn(model: ModelProto, data: Dataset): Promise<number> {
  const { inputs, labels } = examplesOf(data, 0, data.examples);
  const outputs = await outputsOf(model, inputs, [data.examples, 1, 28, 28]);
  return accuracyOf([...outputs.values()][0]!, labels);
}
