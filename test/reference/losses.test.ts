/** Losses with their gradients, and metrics, against PyTorch and against their definitions. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  buildEvaluationGraph,
  MetricSums,
  readModel,
  splitModel,
  type LossName,
  type MetricName,
} from '@commonweight/core';
import * as ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { GraphBuilder } from '../../core/src/onnx/graph-builder.ts';
import { writeModel } from '../../core/src/onnx/file.ts';
import { makeModel, makeNode, makeValue } from '../../core/src/onnx/nodes.ts';
import { floatTensor } from '../../core/src/onnx/tensor-data.ts';
import { AUC_BINS, aucBound } from '../../core/src/training/auc.ts';
import { lossOf } from '../../core/src/training/loss.ts';
import { lossNames, type LossOptions } from '../../core/src/training/losses.ts';
import { metrics } from '../../core/src/training/metrics.ts';

interface LossVector {
  name: string;
  loss: LossName;
  options: LossOptions;
  shape: number[];
  prediction: number[];
  target: number[];
  value: number;
  gradient: number[];
}

interface MetricVector {
  name: string;
  loss: LossName;
  shape: number[];
  prediction: number[];
  target: number[];
  k?: number;
  values: Partial<Record<MetricName, number>>;
}

const vectors = JSON.parse(readFileSync(join(import.meta.dirname, 'losses/vectors.json'), 'utf8')) as {
  losses: LossVector[];
  metrics: MetricVector[];
};

const floats = (values: readonly number[], shape: readonly number[]): ort.Tensor =>
  new ort.Tensor('float32', Float32Array.from(values), shape);
const targetOf = (
  { dtype, shape }: { dtype: string; shape: readonly number[] },
  values: readonly number[],
): ort.Tensor =>
  dtype === 'int64' ? new ort.Tensor('int64', BigInt64Array.from(values, BigInt), shape) : floats(values, shape);

/** Loss and gradient of predictions that come from outside. */
async function computed(
  { loss: name, options, shape, prediction, target }: LossVector,
  weights: readonly number[],
): Promise<{ loss: number; gradient: number[] }> {
  const graph = new GraphBuilder('training/');
  graph.input('x', shape);
  graph.input('weights', [shape[0]!]);
  const ofPlan = lossOf({ loss: name, lossOptions: options });
  const input = ofPlan.target(graph, ['x']);
  const { loss, gradients } = ofPlan.write(graph, { predictions: ['x'], target: input.name, sampleWeights: 'weights' });
  const gradient = gradients.get('x')!;
  const model = makeModel({
    name: 'loss',
    node: graph.nodes,
    initializer: graph.initializers,
    input: graph.inputs,
    output: [loss, gradient].map((value) => makeValue(value, graph.shapeOf(value))),
  });
  const session = await ort.InferenceSession.create(writeModel(model), { logSeverityLevel: 3 });
  const results = await session.run({
    x: floats(prediction, shape),
    weights: floats(weights, [shape[0]!]),
    [input.name]: targetOf(input, target),
  });
  await session.release();
  return { loss: Number(results[loss]!.data[0]), gradient: [...(results[gradient]!.data as Float32Array)] };
}

describe('losses', () => {
  test.each(vectors.losses.map((vector) => [`${vector.loss}: ${vector.name}`, vector] as const))(
    '%s',
    async (_, vector) => {
      const { loss, gradient } = await computed(vector, new Array<number>(vector.shape[0]!).fill(1));
      expect(loss).toBeCloseTo(vector.value, 5);
      gradient.forEach((value, index) => expect(value).toBeCloseTo(vector.gradient[index]!, 5));
    },
  );

  test.each(vectors.losses.map((vector) => [`${vector.loss}: ${vector.name}`, vector] as const))(
    '%s, of which examples of weight 0 are no part',
    async (_, vector) => {
      const { shape, prediction, target } = vector;
      const [batch] = shape as [number];
      const longer: LossVector = {
        ...vector,
        shape: [batch + 2, ...shape.slice(1)],
        prediction: [...prediction, ...prediction.slice(0, (2 * prediction.length) / batch)],
        target: [...target, ...target.slice(0, (2 * target.length) / batch)],
      };
      const weights = Array.from({ length: batch + 2 }, (__, index) => (index < batch ? 1 : 0));
      const { loss, gradient } = await computed(longer, weights);
      expect(loss).toBeCloseTo(vector.value, 5);
      gradient.forEach((value, index) => expect(value).toBeCloseTo(vector.gradient[index] ?? 0, 5));
    },
  );

  test('each loss of the table has a vector', () => {
    const known = new Set(vectors.losses.map(({ loss }) => loss));
    expect(lossNames.filter((name) => !known.has(name))).toEqual(['graph']);
  });
});

describe('metrics', () => {
  test.each(vectors.metrics.map((vector) => [vector.name, vector] as const))('of %s', async (_, vector) => {
    const { shape, prediction, target, loss, k, values } = vector;
    const [count, ...rest] = shape as [number, ...number[]];
    const size = rest.reduce((product, one) => product * one, 1);
    const echo = makeModel({
      name: 'echo',
      node: [makeNode('Mul', ['x', 'w'], ['y'])],
      initializer: [floatTensor('w', [1], Float32Array.of(1))],
      input: [makeValue('x', ['batch', ...rest])],
      output: [makeValue('y', ['batch', ...rest])],
    });
    const names = Object.keys(values) as MetricName[];
    const plan = { loss, metrics: names, ...(k === undefined ? {} : { k }) };
    const batch = 7;
    const graph = buildEvaluationGraph(readModel(splitModel(echo).graph), plan, batch);
    const session = await ort.InferenceSession.create(graph.model, { logSeverityLevel: 3 });
    // Two devices that have parts of the examples: their sums add up.
    const devices = [new MetricSums(graph), new MetricSums(graph)];
    const whole = new MetricSums(graph);
    const targets = target.length / count;
    for (let start = 0; start < count; start += batch) {
      const real = Math.min(batch, count - start);
      const part = (list: readonly number[], each: number): number[] =>
        Array.from({ length: batch * each }, (__, index) => list[start * each + index] ?? list[index]!);
      const results = await session.run({
        x: floats(part(prediction, size), [batch, ...rest]),
        w: floats([1], [1]),
        [graph.target.name]: targetOf(graph.target, part(target, targets)),
        [graph.sampleWeights]: floats(
          Array.from({ length: batch }, (__, index) => (index < real ? 1 : 0)),
          [batch],
        ),
      });
      const outputs = Object.fromEntries(
        graph.totals.map(({ output }) => [output, results[output]!.data as Float32Array]),
      );
      devices[start < count / 2 ? 0 : 1]!.add(outputs);
      whole.add(outputs);
    }
    await session.release();
    const found = whole.values();
    for (const name of names) {
      if (name !== 'auc') expect(found[name], name).toBeCloseTo(values[name]!, 5);
    }
    if (values.auc !== undefined) {
      const [positive, negative] = ['positive', 'negative'].map((name) => whole.sums('auc', name));
      const bound = aucBound(positive!, negative!);
      expect(bound).toBeLessThan(0.005);
      expect(Math.abs(found.auc! - values.auc)).toBeLessThanOrEqual(bound + 1e-9);
      const together = positive!.map(
        (__, index) => devices[0]!.sums('auc', 'positive')[index]! + devices[1]!.sums('auc', 'positive')[index]!,
      );
      expect(together).toEqual(positive);
    }
  });

  test('each metric of the table has a vector', () => {
    const known = new Set(vectors.metrics.flatMap(({ values }) => Object.keys(values)));
    expect(Object.keys(metrics).filter((name) => !known.has(name))).toEqual([]);
    expect(AUC_BINS).toBe(1024);
  });
});
