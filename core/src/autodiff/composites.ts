import { reshapeTo } from './rule.ts';
import type { GradientSite, GradientTable } from './rule.ts';

/** Of nodes that stand, for who differentiates, for several that are in the graph: no runtime ever sees them. */
export const compositeDomain = 'commonweight.composite';

/** Gradients of what is written by several nodes, and has a shorter one as a whole. */
export const composites: GradientTable = {
  // y = x·Φ(x): dx = dy·(Φ(x) + x·φ(x)). Inputs: x, x/√2 and Φ(x); the bell's factor stands in its exponent.
  Gelu: ({ graph, gradient, node }) => {
    const [x, inner, share] = node.input as [string, string, string];
    const slope = (): string => {
      const height = graph.scalar(-0.5 * Math.log(2 * Math.PI));
      const bell = graph.emit('Exp', [graph.emit('Sub', [height, graph.emit('Mul', [inner, inner])])]);
      return graph.emit('Add', [graph.emit('Mul', [x, bell]), share]);
    };
    return [() => graph.emit('Mul', [gradient, slope()]), 'fixed', 'fixed'];
  },
  // Ioffe and Szegedy 2015, by the batch's statistics. Inputs: x, scale, bias, then x − mean, 1/√(variance + ε) and each example's share.
  BatchNormalization: (site) => {
    const { graph, gradient, node } = site;
    const [, scale, , centred, inverse, shares] = node.input as [string, string, string, string, string, string];
    const [batch, channels, ...spatial] = graph.shapeOf(gradient) as [number, number, ...number[]];
    const along = (value: string): string => reshapeTo(graph, value, [channels, ...spatial.map(() => 1)]);
    const once = memo((): { sum: string; slope: string } => ({
      sum: sumOfChannels(site, gradient),
      slope: graph.emit('Mul', [sumOfChannels(site, graph.emit('Mul', [gradient, centred])), inverse]),
    }));
    return [
      () => {
        const { sum, slope } = once();
        const factor = graph.emit('Mul', [scale, inverse]);
        // What an example takes part in the batch's statistics by, spread over its positions.
        const positions = spatial.reduce((product, size) => product * size, 1);
        const part = graph.emit('Div', [reshapeTo(graph, shares, [batch, 1]), graph.scalar(positions)]);
        const perExample = (value: string): string =>
          reshapeTo(graph, graph.emit('Mul', [part, reshapeTo(graph, value, [1, channels])]), [
            batch,
            channels,
            ...spatial.map(() => 1),
          ]);
        const stretch = perExample(graph.emit('Mul', [graph.emit('Mul', [slope, inverse]), factor]));
        const shift = perExample(graph.emit('Mul', [sum, factor]));
        const taken = graph.emit('Add', [graph.emit('Mul', [centred, stretch]), shift]);
        return graph.emit('Sub', [graph.emit('Mul', [gradient, along(factor)]), taken]);
      },
      () => once().slope,
      () => once().sum,
    ];
  },
};

function memo<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => (made ??= make());
}

function sumOfChannels({ graph }: GradientSite, value: string): string {
  const axes = graph.shapeOf(value).flatMap((_, axis) => (axis === 1 ? [] : [axis]));
  return graph.emit('ReduceSum', [value, graph.integers(axes)], { keepdims: 0 });
}
