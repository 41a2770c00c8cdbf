import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
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
  ReduceSumSquare: (site) => [() => timesInput(site, site.graph.emit('Mul', [site.gradient, site.graph.scalar(2)]))],
  ReduceL2: (site) => [() => timesInput(site, site.graph.emit('Div', [site.gradient, site.node.output[0]!]))],
  ReduceLogSumExp: (site) => [
    () => {
      const { graph, node } = site;
      const y = expand({ ...site, gradient: node.output[0]! });
      return graph.emit('Mul', [expand(site), graph.emit('Exp', [graph.emit('Sub', [node.input[0]!, y])])]);
    },
  ],
  ReduceMax: (site) => [() => toChosen(site)],
  ReduceMin: (site) => [() => toChosen(site)],
};

const timesInput = (site: GradientSite, gradient: string): string =>
  site.graph.emit('Mul', [expand({ ...site, gradient }), site.node.input[0]!]);

/** The gradient goes to the numbers that were chosen; those that tie share it evenly. */
function toChosen(site: GradientSite): string {
  const { graph, node } = site;
  const y = expand({ ...site, gradient: node.output[0]! });
  const marks = graph.emit('Cast', [graph.emit('Equal', [node.input[0]!, y])], { to: TensorProto_DataType.FLOAT });
  const ties = graph.emit('ReduceSum', [marks, graph.integers(axesOf(site))], { keepdims: 1 });
  return graph.emit('Div', [graph.emit('Mul', [expand(site), marks]), ties]);
}

function expand(site: GradientSite): string {
  const shape = inputShape(site, 0);
  const axes = axesOf(site);
  const kept = shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
  return site.graph.emit('Expand', [reshapeTo(site.graph, site.gradient, kept), site.graph.integers(shape)]);
}

function axesOf({ graph, node }: GradientSite): number[] {
  return reducedAxes(graph.site(node));
}
