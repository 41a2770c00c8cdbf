import { reducedAxes } from '../onnx/shapes.ts';
import { inputShape, reshapeTo } from './rule.ts';
import type { GradientSite, GradientTable } from './rule.ts';

/** Gradients of sums and means: every number that went in gets its share back. */
export const reduce: GradientTable = {
  ReduceSum: (site) => [() => expand(site)],
  ReduceMean: (site) => [
    () => {
      const shape = inputShape(site, 0);
      const count = axesOf(site).reduce((product, axis) => product * shape[axis]!, 1);
      return expand({ ...site, gradient: site.graph.emit('Div', [site.gradient, site.graph.scalar(count)]) });
    },
  ],
};

function expand(site: GradientSite): string {
  const shape = inputShape(site, 0);
  const axes = axesOf(site);
  const kept = shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
  return site.graph.emit('Expand', [reshapeTo(site.graph, site.gradient, kept), site.graph.integers(shape)]);
}

function axesOf({ graph, node }: GradientSite): number[] {
  return reducedAxes(graph.site(node));
}
