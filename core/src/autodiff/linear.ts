import { floatAttribute, intAttribute } from '../onnx/nodes.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import type { Shape } from '../tensor/shape.ts';
import { inputShape, reduceTo, reshapeTo, transpose } from './rule.ts';
import type { GradientSite, GradientTable } from './rule.ts';

/** Gradients of matrix products. */
export const linear: GradientTable = {
  Gemm: ({ graph, node, gradient }) => {
    const [a, b, c] = node.input;
    const [transA, transB] = [intAttribute(node, 'transA', 0), intAttribute(node, 'transB', 0)];
    const alpha = floatAttribute(node, 'alpha', 1);
    const beta = floatAttribute(node, 'beta', 1);
    const gemm = (left: string, right: string, turnLeft: number, turnRight: number): string =>
      graph.emit('Gemm', [left, right], { alpha: { float: alpha }, transA: turnLeft, transB: turnRight });
    return [
      () => (transA === 1 ? gemm(b!, gradient, transB, 1) : gemm(gradient, b!, 0, 1 - transB)),
      () => (transB === 1 ? gemm(gradient, a!, 1, transA) : gemm(a!, gradient, 1 - transA, 0)),
      () => {
        const reduced = reduceTo(graph, gradient, graph.shapeOf(c!));
        return beta === 1 ? reduced : graph.emit('Mul', [reduced, graph.scalar(beta)]);
      },
    ];
  },
  MatMul: (site) => [() => matMulLeft(site), () => matMulRight(site)],
};

function matMulLeft(site: GradientSite): string {
  const { graph, node } = site;
  const right = asMatrices(graph, node.input[1]!, 'column');
  const product = graph.emit('MatMul', [outputMatrices(site), swapLastAxes(graph, right)]);
  const shape = inputShape(site, 0);
  return reshapeTo(graph, reduceTo(graph, product, shape.length === 1 ? [1, ...shape] : shape), shape);
}

function matMulRight(site: GradientSite): string {
  const { graph, node } = site;
  const shape = inputShape(site, 1);
  const left = asMatrices(graph, node.input[0]!, 'row');
  const gradient = outputMatrices(site);
  if (shape.length === 2) {
    // One matrix shared by the whole batch: a single product over all rows at once.
    return graph.emit('Gemm', [rows(graph, left), rows(graph, gradient)], { transA: 1 });
  }
  const product = graph.emit('MatMul', [swapLastAxes(graph, left), gradient]);
  return reshapeTo(graph, reduceTo(graph, product, shape.length === 1 ? [...shape, 1] : shape), shape);
}

/** The output's gradient with the axes that MatMul drops for vectors put back. */
function outputMatrices(site: GradientSite): string {
  const [a, b] = [inputShape(site, 0), inputShape(site, 1)];
  const shape = [...site.graph.shapeOf(site.gradient)];
  if (b.length === 1) shape.push(1);
  if (a.length === 1) shape.splice(shape.length - 1, 0, 1);
  return reshapeTo(site.graph, site.gradient, shape);
}

function asMatrices(graph: GraphBuilder, value: string, vectorIs: 'row' | 'column'): string {
  const shape = graph.shapeOf(value);
  if (shape.length !== 1) return value;
  return reshapeTo(graph, value, vectorIs === 'row' ? [1, ...shape] : [...shape, 1]);
}

function swapLastAxes(graph: GraphBuilder, value: string): string {
  const rank = graph.shapeOf(value).length;
  const perm = Array.from({ length: rank }, (_, axis) => axis);
  [perm[rank - 2], perm[rank - 1]] = [rank - 1, rank - 2];
  return transpose(graph, value, perm);
}

function rows(graph: GraphBuilder, value: string): string {
  const shape: Shape = graph.shapeOf(value);
  const width = shape.at(-1)!;
  return reshapeTo(graph, value, [shape.reduce((product, size) => product * size, 1) / width, width]);
}
