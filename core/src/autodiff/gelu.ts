import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { makeNode } from '../onnx/nodes.ts';
import { sameShape } from '../tensor/shape.ts';
import { compositeDomain } from './composites.ts';

/** What x·½·(1 + erf(x/√2)) is made of. */
interface Gelu {
  x: string;
  /** x/√2 */
  inner: string;
  /** erf of it */
  part: string;
}

/**
 * Finds the exact GELU (Hendrycks and Gimpel 2016) where an exporter, or our own rewriting, wrote it by erf in any order of its products,
 * writes it as x·Φ(x), and answers the forward pass as who differentiates it is to see it: as one node, whose gradient takes four passes
 * over the numbers less than those of its parts. Parts that somebody else reads stay.
 */
export function writeGelus(graph: GraphBuilder, start: number, forward: readonly NodeProto[]): readonly NodeProto[] {
  if (!forward.some(({ opType }) => opType === 'Erf')) return forward;
  const makers = new Map(forward.flatMap((node) => node.output.map((name) => [name, node] as const)));
  const wholes = new Map<NodeProto, NodeProto>();
  graph.rewriteFrom(start, (node) => {
    const gelu = geluAt(graph, makers, node);
    if (gelu === undefined) return false;
    const half = graph.scalar(0.5);
    const share = graph.emit('Add', [graph.emit('Mul', [gelu.part, half]), half]);
    graph.emit('Mul', [gelu.x, share], {}, node.output[0]);
    const whole = makeNode('Gelu', [gelu.x, gelu.inner, share], [node.output[0]!], {}, node.name);
    whole.domain = compositeDomain;
    wholes.set(node, whole);
    return true;
  });
  return forward.map((node) => wholes.get(node) ?? node);
}

function geluAt(graph: GraphBuilder, makers: ReadonlyMap<string, NodeProto>, node: NodeProto): Gelu | undefined {
  for (const factors of factorizations(graph, makers, node)) {
    for (const [at, sum] of factors.entries()) {
      const others = factors.filter((_, other) => other !== at);
      const x = others.find((name) => !isScalar(graph, name, 0.5));
      if (x === undefined || !others.some((name) => isScalar(graph, name, 0.5))) continue;
      const part = termBesideOne(graph, makers.get(sum));
      const erf = part === undefined ? undefined : makers.get(part);
      if (part === undefined || erf?.opType !== 'Erf') continue;
      const inner = erf.input[0]!;
      if (!isOverRootTwo(graph, makers.get(inner), x)) continue;
      if (sameShape(graph.shapeOf(x), graph.shapeOf(part))) return { x, inner, part };
    }
  }
  return undefined;
}

/** A product of two as products of three: with either of the two divided into the factors that it was made of. */
function* factorizations(
  graph: GraphBuilder,
  makers: ReadonlyMap<string, NodeProto>,
  node: NodeProto,
): Generator<readonly string[]> {
  const outer = factorsOf(graph, node);
  for (const at of outer?.keys() ?? []) {
    const maker = makers.get(outer![at]!);
    const within = maker === undefined ? undefined : factorsOf(graph, maker);
    if (within !== undefined) yield [...outer!.filter((_, other) => other !== at), ...within];
  }
}

/** x/2 is x·½. */
function factorsOf(graph: GraphBuilder, { opType, domain, input }: NodeProto): readonly string[] | undefined {
  if (domain !== '') return undefined;
  if (opType === 'Mul') return input;
  return opType === 'Div' && isScalar(graph, input[1]!, 2) ? [input[0]!, graph.scalar(0.5)] : undefined;
}

function termBesideOne(graph: GraphBuilder, node: NodeProto | undefined): string | undefined {
  if (node?.opType !== 'Add') return undefined;
  const at = node.input.findIndex((name) => isScalar(graph, name, 1));
  return at < 0 ? undefined : node.input[1 - at];
}

function isOverRootTwo(graph: GraphBuilder, node: NodeProto | undefined, x: string): boolean {
  if (node?.opType === 'Div') return node.input[0] === x && isScalar(graph, node.input[1]!, Math.SQRT2);
  if (node?.opType !== 'Mul') return false;
  const at = node.input.indexOf(x);
  return at >= 0 && isScalar(graph, node.input[1 - at]!, Math.SQRT1_2);
}

/** Whether it is a constant of one number, this one as float32 has it or nearly so: exporters round √2 in their own ways. */
function isScalar(graph: GraphBuilder, name: string, value: number): boolean {
  const numbers = graph.has(name) && graph.isFloat(name) ? graph.constantFloats(name) : undefined;
  return numbers?.length === 1 && Math.abs(numbers[0]! - value) <= 1e-6 * value;
}
