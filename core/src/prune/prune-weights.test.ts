import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { cnn } from '../models/cnn.ts';
import { mlp } from '../models/mlp.ts';
import { graphOf } from '../onnx/file.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { floatValues } from '../onnx/tensor-data.ts';
import { costOf } from './cost.ts';
import { pruneWeights } from './prune-weights.ts';

const weightsOf = (model: ModelProto): Map<string, Float32Array> =>
  new Map(graphOf(model).initializer.map((tensor) => [tensor.name, floatValues(tensor)]));

test('each tensor loses its smallest weights, exactly the share that was asked for, and biases lose none', () => {
  const small = mlp({ inputs: 7, hidden: [9], outputs: 4, seed: 1 });
  fc.assert(
    fc.property(fc.double({ min: 0, max: 0.999, noNaN: true }), (sparsity) => {
      const before = weightsOf(small);
      const { model, tensors } = pruneWeights(small, { sparsity });
      expect(tensors).toEqual(['hidden1.weight', 'output.weight']);
      for (const [name, after] of weightsOf(model)) {
        const own = before.get(name)!;
        if (!tensors.includes(name)) expect(after).toEqual(own);
        else {
          const gone = [...own].filter((_, place) => after[place] === 0).map(Math.abs);
          const left = [...after].filter((value) => value !== 0).map(Math.abs);
          expect(gone).toHaveLength(Math.floor(sparsity * own.length));
          expect(Math.max(0, ...gone)).toBeLessThanOrEqual(Math.min(...left, Infinity));
        }
      }
    }),
  );
});

test('over all tensors together the smallest go, wherever they are', () => {
  const model = cnn({ height: 8, width: 8, channels: 1, filters: [4], dense: 16, outputs: 3, seed: 2 });
  const { model: pruned } = pruneWeights(model, { sparsity: 0.5, scope: 'global' });
  const shares = [...weightsOf(pruned)]
    .filter(([name]) => name.endsWith('weight'))
    .map(([, values]) => {
      const zeros = values.reduce((sum, value) => sum + Number(value === 0), 0);
      return zeros / values.length;
    });
  // The convolution has few inputs and so large weights.
  expect(shares[0]).toBeLessThan(0.5);
  const { parameters, zeros } = costOf(pruned);
  expect(zeros / parameters).toBeGreaterThan(0.48);
});

test('excluded layers keep their weights, and a model without layers is refused', () => {
  const model = mlp({ inputs: 7, hidden: [9], outputs: 4, seed: 1 });
  expect(pruneWeights(model, { sparsity: 0.5, exclude: ['output'] }).tensors).toEqual(['hidden1.weight']);
  expect(() => pruneWeights(model, { sparsity: 0.5, exclude: ['*'] })).toThrow('no convolution or matrix product');
  expect(() => pruneWeights(model, { sparsity: -0.1 })).toThrow('sparsity must be from 0 to below 1');
});

test('what one example costs: two operations for each product', () => {
  const { parameters, operations } = costOf(mlp({ inputs: 7, hidden: [9], outputs: 4, seed: 1 }));
  expect({ parameters, operations }).toEqual({ parameters: 7 * 9 + 9 + 9 * 4 + 4, operations: 2 * (7 * 9 + 9 * 4) });
  const images = cnn({ height: 8, width: 8, channels: 1, filters: [4], kernel: 3, dense: 16, outputs: 3, seed: 2 });
  expect(costOf(images).operations).toBe(2 * (8 * 8 * 4 * 9 + 4 * 16 * 16 + 16 * 3));
});
