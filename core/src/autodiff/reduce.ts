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
  ReduceL1: (site) => [() => site.graph.emit('Mul', [expand(site), site.graph.emit('Sign', [site.node.input[0]!])])],
  // Where all is zero the gradient is zero, as in PyTorch.
  ReduceL2: (site) => [
    () => {
      const { graph, node, gradient } = site;
      const isZero = graph.emit('Equal', [node.output[0]!, graph.scalar(0)]);
      const length = graph.emit('Where', [isZero, graph.scalar(1), node.output[0]!]);
      return timesInput(site, graph.emit('Div', [gradient, length]));
    },
  ],
  ReduceLogSum: (site) => [
    () =>
      expand({
        ...site,
        gradient: site.graph.emit('Div', [site.gradient, site.graph.emit('Exp', [site.node.output[0]!])]),
      }),
  ],
  // The product of all the others, zeros among them included.
  ReduceProd: (site) => [
    () => {
      const { graph, node } = site;
      const [x] = node.input;
      const axes = axesOf(site);
      const isZero = graph.emit('Equal', [x!, graph.scalar(0)]);
      const zero = graph.emit('Cast', [isZero], { to: TensorProto_DataType.FLOAT });
      const safe = graph.emit('Where', [isZero, graph.scalar(1), x!]);
      const product = graph.emit('ReduceProd', [safe], { axes, keepdims: 1 });
      const zeroCount = graph.emit('ReduceSum', [zero, graph.integers(axes)], { keepdims: 1 });
      const isAlone = graph.emit('Equal', [zeroCount, zero]);
      const others = graph.emit('Where', [isAlone, graph.emit('Div', [product, safe]), graph.scalar(0)]);
      return graph.emit('Mul', [expand(site), others]);
    },
  ],
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
