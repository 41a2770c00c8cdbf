import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { intAttribute, stringAttribute } from '../onnx/nodes.ts';
import { sizeOf, wrapAxis } from '../tensor/shape.ts';
import { inputShape, refuse, reshapeTo, transpose, zeros } from './rule.ts';
import type { GradientRule, GradientSite, GradientTable } from './rule.ts';

/** Gradients of operators that take and put numbers by index; what was taken more than once gets the sum. */
export const indexing: GradientTable = {
  Gather: (site) => [
    () => {
      const { graph, node, gradient } = site;
      const shape = inputShape(site, 0);
      const axis = wrapAxis(intAttribute(node, 'axis', 0), shape.length);
      const places = graph.shapeOf(node.input[1]!);
      const count = sizeOf(places);
      const others = shape.filter((_, at) => at !== axis);
      // The gathered axes come first, so that one scatter of whole rows does it.
      const rank = graph.shapeOf(gradient).length;
      const moved = Array.from({ length: places.length }, (_, at) => axis + at);
      const rest = Array.from({ length: rank }, (_, at) => at).filter((at) => !moved.includes(at));
      const rows = reshapeTo(graph, transpose(graph, gradient, [...moved, ...rest]), [count, ...others]);
      const size = graph.integers([shape[axis]!]);
      const raw = reshapeTo(graph, asInt64(graph, node.input[1]!), [count, 1]);
      const isNegative = graph.emit('Less', [raw, graph.integers([0])]);
      const index = graph.emit('Where', [isNegative, graph.emit('Add', [raw, size]), raw]);
      const scattered = graph.emit('ScatterND', [zeros(graph, [shape[axis]!, ...others]), index, rows], {
        reduction: 'add',
      });
      const back = Array.from({ length: shape.length }, (_, at) => (at === axis ? 0 : at < axis ? at + 1 : at));
      return axis === 0 ? scattered : transpose(graph, scattered, back);
    },
  ],
  GatherElements: (site) => [
    () => {
      const { graph, node, gradient } = site;
      const empty = zeros(graph, inputShape(site, 0));
      return graph.emit('ScatterElements', [empty, node.input[1]!, gradient], {
        axis: intAttribute(node, 'axis', 0),
        reduction: 'add',
      });
    },
  ],
  GatherND: (site) => [
    () => {
      const { graph, gradient } = site;
      return graph.emit('ScatterND', [zeros(graph, inputShape(site, 0)), wholeIndices(site), gradient], {
        reduction: 'add',
      });
    },
  ],
  ScatterElements: scattering((site) => {
    const axis = intAttribute(site.node, 'axis', 0);
    return {
      take: () => site.graph.emit('GatherElements', [site.gradient, site.node.input[1]!], { axis }),
      clear: (empty) => site.graph.emit('ScatterElements', [site.gradient, site.node.input[1]!, empty], { axis }),
    };
  }),
  ScatterND: scattering((site) => ({
    take: () => site.graph.emit('GatherND', [site.gradient, site.node.input[1]!]),
    clear: (empty) => site.graph.emit('ScatterND', [site.gradient, site.node.input[1]!, empty]),
  })),
};

/** A Gather takes either kind of index, a ScatterND this one alone. */
function asInt64(graph: GraphBuilder, index: string): string {
  const { INT64 } = TensorProto_DataType;
  return graph.typeOf(index).elemType === INT64 ? index : graph.emit('Cast', [index], { to: INT64 });
}

/** What was put there has the gradient now, and what it replaced has none. */
function scattering(
  moves: (site: GradientSite) => { take: () => string; clear: (empty: string) => string },
): GradientRule {
  return (site) => {
    const { graph, node, gradient } = site;
    const reduction = stringAttribute(node, 'reduction', 'none');
    if (reduction !== 'none' && reduction !== 'add') {
      return refuse(node, `reduces by '${reduction}'; its gradient is written for none and add`);
    }
    const { take, clear } = moves(site);
    return [() => (reduction === 'add' ? gradient : clear(zeros(graph, inputShape(site, 2)))), undefined, () => take()];
  };
}

/** The indices of a GatherND with those of its batch dimensions written out in front. */
function wholeIndices(site: GradientSite): string {
  const { graph, node } = site;
  const dims = intAttribute(node, 'batch_dims', 0);
  if (dims === 0) return node.input[1]!;
  const shape = inputShape(site, 1).slice(0, -1);
  const batch = shape.slice(0, dims);
  const rest = sizeOf(shape.slice(dims));
  const grid = Array.from({ length: sizeOf(batch) * rest }, (_, index) => {
    let place = Math.floor(index / rest);
    const spot: number[] = [];
    for (const size of batch.toReversed()) {
      spot.unshift(place % size);
      place = Math.floor(place / size);
    }
    return spot;
  });
  const front = graph.emit('Reshape', [graph.integers(grid.flat()), graph.integers([...shape, dims])]);
  return graph.emit('Concat', [front, node.input[1]!], { axis: shape.length });
}
