import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { draw, generator, worstGap } from '../../../test/reference/differences.ts';
import { differentiate } from '../autodiff/backward.ts';
import { GraphBuilder } from '../onnx/graph-builder.ts';
import { makeNode } from '../onnx/nodes.ts';
import { sizeOf } from '../tensor/shape.ts';
import { realExamples, writeBatchNormalization } from './batch-statistics.ts';

test('the gradient through the statistics of a batch equals finite differences, whatever fills the batch up', () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.constantFrom([3], [2, 2], []),
      fc.constantFrom([1, 1, 1], [1, 1, 0], [1, 0, 0], [2, 1, 0.5]),
      (seed, spatial, weights) => {
        const uniform = generator(seed);
        const graph = new GraphBuilder('test/');
        const x = graph.input('x', [3, 2, ...spatial]);
        const [scale, bias, mean, variance] = ['scale', 'bias', 'mean', 'variance'].map((name) =>
          graph.input(name, [2]),
        ) as [string, string, string, string];
        const real = realExamples(graph, graph.input('weights', [3]));
        const attributes = { training_mode: 1, epsilon: { float: 0.1 } };
        const node = makeNode('BatchNormalization', [x, scale, bias, mean, variance], ['y', 'm', 'v'], attributes);
        const { whole } = writeBatchNormalization(graph, node, { mean, variance }, real);
        const seeds = new Map([['y', graph.input('seed', graph.shapeOf('y'))]]);
        const names = [x, scale, bias];
        const found = differentiate(graph, [whole], seeds, names);
        const feeds = new Map(
          [...names, mean, variance, 'seed'].map((name) => [
            name,
            draw(sizeOf(graph.shapeOf(name)), name === variance ? 'positive' : 'any', uniform),
          ]),
        );
        feeds.set('weights', Float64Array.from(weights));
        expect(worstGap({ graph, names, seeds, found, feeds })).toBeLessThan(1e-6);
      },
    ),
    { numRuns: 60 },
  );
});
