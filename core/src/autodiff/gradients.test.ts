import * as fc from 'fast-check';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { generator, worstGap } from '../../../test/reference/differences.ts';
import { evaluate } from '../../../test/reference/evaluate.ts';
import { gradientRows, setUp, type Case } from '../../../test/reference/gradient-cases.ts';
import { GraphBuilder } from '../onnx/graph-builder.ts';
import { writeModel } from '../onnx/file.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import type { Attributes } from '../onnx/nodes.ts';
import { sizeOf } from '../tensor/shape.ts';
import { differentiate } from './backward.ts';
import type { GradientForms } from './forms.ts';

test.each(gradientRows)('the gradient of $title equals finite differences', ({ operator, forms, makeCase }) => {
  expect(makeCase, `${operator} has a row in the gradient table and no cases here`).toBeDefined();
  fc.assert(
    fc.property(fc.nat(), (seed) => {
      const uniform = generator(seed);
      const difference = worstDifference(
        operator,
        makeCase!((...sides) => sides[Math.floor(uniform() * sides.length)]!),
        uniform,
        forms,
      );
      expect(difference).toBeLessThan(1e-6);
    }),
    { numRuns: 25 },
  );
});

test.each(gradientRows)(
  'ONNX Runtime computes the gradient of $title as the reference does',
  async ({ operator, forms, makeCase }) => {
    for (let seed = 0; seed < 12; seed++) {
      const uniform = generator(seed);
      const example = makeCase!((...sides) => sides[Math.floor(uniform() * sides.length)]!);
      const { graph, found, feeds } = setUp(operator, example, uniform, forms);
      // The node's own value too, so that both mean the same by it.
      const outputs = [...new Set([...found.values(), 'y'])].filter((name) => !feeds.has(name));
      const model = makeModel({
        name: 'gradient',
        node: graph.nodes,
        initializer: graph.initializers,
        input: graph.inputs,
        output: outputs.map((name) => makeValue(name, graph.shapeOf(name))),
      });
      const session = await ort.InferenceSession.create(writeModel(model), {
        intraOpNumThreads: 1,
        logSeverityLevel: 3,
      });
      const tensors = [...feeds].map(([name, data]) => {
        return [name, new ort.Tensor('float32', Float32Array.from(data), graph.shapeOf(name))] as const;
      });
      const results = await session.run(Object.fromEntries(tensors));
      const reference = evaluate(graph, feeds);
      for (const name of outputs) {
        expect(results[name]!.dims).toEqual(graph.shapeOf(name));
        reference
          .get(name)!
          .forEach((value, index) => expect(Number(results[name]!.data[index])).toBeCloseTo(value, 3));
      }
      await session.release();
    }
  },
);

test('at ties and at zero gradients are shares or limits, and numbers always', () => {
  const of = (operator: string, inputs: readonly number[][], attributes: Attributes = {}): number[][] => {
    const graph = new GraphBuilder('test/');
    const names = inputs.map((values, index) => graph.input(`x${index}`, [values.length]));
    const node = makeNode(operator, names, ['y'], attributes);
    graph.append(node);
    const found = differentiate(graph, [node], new Map([['y', graph.input('seed', graph.shapeOf('y'))]]), names);
    const feeds = new Map(names.map((name, index) => [name, Float64Array.from(inputs[index]!)]));
    const values = evaluate(graph, feeds.set('seed', new Float64Array(sizeOf(graph.shapeOf('y'))).fill(6)));
    return names.map((name) => [...values.get(found.get(name)!)!]);
  };
  expect(
    of('Max', [
      [1, 2],
      [1, 3],
      [1, 1],
    ]),
  ).toEqual([
    [2, 0],
    [2, 6],
    [2, 0],
  ]);
  expect(
    of('Min', [
      [1, 2],
      [1, 3],
    ]),
  ).toEqual([
    [3, 6],
    [3, 0],
  ]);
  expect(of('ReduceMax', [[4, 4, 1, 4]], { axes: [0] })).toEqual([[2, 2, 0, 2]]);
  expect(of('ReduceL2', [[0, 0]], { axes: [0] })).toEqual([[0, 0]]);
  expect(of('ReduceProd', [[0, 5, 2]], { axes: [0] })).toEqual([[60, 0, 0]]);
  expect(of('ReduceProd', [[0, 0, 2]], { axes: [0] })).toEqual([[0, 0, 0]]);
  expect(
    of('Pow', [
      [0, 0, 3],
      [2, 0, 1],
    ])[0],
  ).toEqual([0, 0, 6]);
  expect(
    of('Pow', [
      [0, 0, 1],
      [2, 0, 1],
    ])[1],
  ).toEqual([0, 0, 0]);
  expect(of('Relu', [[0, 1]])).toEqual([[0, 6]]);
  expect(of('Abs', [[0, -1]])).toEqual([[0, -6]]);
});

test('of numbers in a window that tie the first has the gradient, whatever the form, and the border never has it', () => {
  const by = (pooling: 'places' | 'comparison'): number[] => {
    const graph = new GraphBuilder('test/');
    const x = graph.input('x', [1, 1, 3, 3]);
    const attributes = { kernel_shape: [2, 2], strides: [2, 2], pads: [1, 1, 0, 0] };
    const node = makeNode('MaxPool', [x], ['y'], attributes);
    graph.append(node);
    const seeds = new Map([['y', graph.input('seed', graph.shapeOf('y'))]]);
    const found = differentiate(graph, [node], seeds, [x], { pooling });
    const feeds = new Map([
      ['x', Float64Array.of(-1, 0, 0, 0, 0, 0, -2, 0, 0)],
      ['seed', Float64Array.of(1, 2, 3, 4)],
    ]);
    return [...evaluate(graph, feeds).get(found.get(x)!)!];
  };
  expect(by('comparison')).toEqual([1, 2, 0, 3, 4, 0, 0, 0, 0]);
  expect(by('places')).toEqual(by('comparison'));
});

/** Largest gap between analytic and central-difference gradients over all inputs of the node. */
function worstDifference(operator: string, example: Case, uniform: () => number, forms: GradientForms): number {
  return worstGap(setUp(operator, example, uniform, forms));
}
