import * as ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { writeModel } from '../onnx/file.ts';
import { GraphBuilder } from '../onnx/graph-builder.ts';
import { makeModel, makeValue } from '../onnx/nodes.ts';
import { writeOptimizer, type OptimizerPlan, type StateSlot } from './optimizers.ts';

/** Weights after each step from 1 with a gradient of 2, on the runtime; `factors` scale the rate. */
async function walk(plan: OptimizerPlan, steps: number, factors?: readonly number[]): Promise<number[]> {
  const graph = new GraphBuilder('t/');
  graph.input('w', [2]);
  graph.input('g', [2]);
  const rate = factors === undefined ? undefined : graph.input('rate', [1]);
  const state: StateSlot[] = [];
  writeOptimizer(graph, plan, state, rate)('w', 'g', 'next');
  const outputs = ['next', ...state.map(({ output }) => output)];
  const model = makeModel({
    name: 'optimizer',
    node: [...graph.nodes],
    initializer: [...graph.initializers],
    input: [...graph.inputs],
    output: outputs.map((name) => makeValue(name, graph.shapeOf(name), graph.typeOf(name).elemType)),
  });
  const session = await ort.InferenceSession.create(writeModel(model), { intraOpNumThreads: 1, logSeverityLevel: 3 });
  const float = (values: readonly number[], shape: readonly number[]): ort.Tensor =>
    new ort.Tensor('float32', Float32Array.from(values), shape);
  let feeds: Record<string, ort.Tensor> = { w: float([1, 1], [2]), g: float([2, 2], [2]) };
  for (const { input, shape } of state)
    feeds[input] = float(
      Array.from({ length: shape[0]! }, () => 0),
      shape,
    );
  const seen: number[] = [];
  for (let step = 0; step < steps; step++) {
    if (rate !== undefined) feeds[rate] = float([factors![step]!], [1]);
    const results = await session.run(feeds);
    feeds = { ...feeds, w: results['next']! };
    for (const { input, output } of state) feeds[input] = results[output]!;
    seen.push(Number(feeds['w']!.data[0]));
  }
  await session.release();
  return seen;
}

describe('a weight of 1 and a gradient of 2: the values that optimizers are known by', () => {
  const known: [OptimizerPlan, number[]][] = [
    [{ name: 'sgd', learningRate: 0.01 }, [0.98, 0.96, 0.94, 0.92]],
    [{ name: 'sgd', learningRate: 0.01, momentum: 0.5 }, [0.98, 0.95, 0.915, 0.8775]],
    [{ name: 'nesterov', learningRate: 0.01, momentum: 0.5 }, [0.97, 0.935, 0.8975, 0.85875]],
    [{ name: 'adagrad', learningRate: 0.01 }, [0.99, 0.9829289, 0.9771554, 0.9721554]],
    [{ name: 'rmsprop', learningRate: 0.01, decay: 0.5 }, [0.98585784, 0.9743108, 0.96362036, 0.9532924]],
    [{ name: 'adam', learningRate: 0.1 }, [0.9, 0.8, 0.7, 0.6]],
    // Each step shrinks the weight by rate·decay = 1 % as well.
    [{ name: 'adamw', learningRate: 0.1, weightDecay: 0.1 }, [0.89, 0.7811, 0.673289, 0.56655611]],
  ];
  test.each(known)('%o', async (plan, expected) => {
    const seen = await walk(plan, expected.length);
    for (const [step, value] of seen.entries()) expect(value).toBeCloseTo(expected[step]!, 4);
  });

  test.each(known.map(([plan]) => [plan]))('%o: a schedule scales each step', async (plan) => {
    const [whole, none, half] = [await walk(plan, 1), await walk(plan, 1, [0]), await walk(plan, 1, [0.5])];
    expect(none[0]).toBe(1);
    expect(1 - half[0]!).toBeCloseTo((1 - whole[0]!) / 2, 6);
  });
});
