import { OnnxError } from './errors.ts';
import type { GraphProto, NodeProto } from './gen/onnx/onnx_pb.ts';
import { requireSound } from './tensor-data.ts';

/**
 * Throws OnnxError where a graph is none: a value that nothing makes, or that is read before it is made (as in a circle), one that is made
 * twice, a tensor whose numbers are not those of its shape. Source: the ONNX specification, "Graphs".
 */
export function requireWellFormed(graph: GraphProto, outside?: Scope): void {
  const scope = new Scope(outside);
  // Before IR version 4 every initializer was listed as an input too.
  const initialized = new Set<string>();
  for (const tensor of graph.initializer) {
    requireSound(tensor);
    if (initialized.has(tensor.name)) throw twice(tensor.name);
    initialized.add(tensor.name);
    scope.add(tensor.name);
  }
  for (const { name } of graph.input) if (!initialized.has(name)) scope.add(name);
  graph.node.forEach((node, index) => {
    const missing = node.input.find((name) => name !== '' && !scope.has(name));
    if (missing !== undefined) throw unmade(graph, node, missing, index);
    for (const { t, tensors, g, graphs } of node.attribute) {
      for (const tensor of t === undefined ? tensors : [t, ...tensors]) requireSound(tensor);
      for (const inner of g === undefined ? graphs : [g, ...graphs]) requireWellFormed(inner, scope);
    }
    for (const name of node.output) if (name !== '') scope.add(name);
  });
  const output = graph.output.find(({ name }) => !scope.has(name));
  if (output !== undefined)
    throw new OnnxError(`the graph has the output '${output.name}', which no node makes; export the model again`);
}

/** Values that are there: those of a graph, and of the graphs around it. */
class Scope {
  readonly #own: Set<string> = new Set();
  readonly #outside: Scope | undefined;

  constructor(outside: Scope | undefined) {
    this.#outside = outside;
  }

  has(name: string): boolean {
    return this.#own.has(name) || this.#outside?.has(name) === true;
  }

  add(name: string): void {
    if (this.#own.has(name)) throw twice(name);
    this.#own.add(name);
  }
}

const twice = (name: string): OnnxError =>
  new OnnxError(`two values are named '${name}'; rename one of them in the model`);

function unmade(graph: GraphProto, node: NodeProto, name: string, index: number): OnnxError {
  const later = graph.node.findIndex(({ output }, at) => at >= index && output.includes(name));
  const what = `node '${node.name}' (${node.opType}) reads '${name}'`;
  if (later < 0) return new OnnxError(`${what}, which nothing makes; export the model again`);
  return new OnnxError(
    `${what} before a node makes it: the nodes go in a circle, or are out of order; export the model again`,
  );
}
