import type { GraphProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';

/** Who makes and who reads each value of a graph. */
export class GraphView {
  readonly graph: GraphProto;
  readonly constants: ReadonlyMap<string, TensorProto>;
  readonly outputs: ReadonlySet<string>;
  /** Values that a graph inside a node (a branch, a loop body) reads from outside. */
  readonly captured: ReadonlySet<string>;
  readonly #makers: Map<string, NodeProto> = new Map();
  readonly #readers: Map<string, NodeProto[]> = new Map();
  readonly #names: Set<string>;

  constructor(graph: GraphProto) {
    this.graph = graph;
    this.constants = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]));
    this.outputs = new Set(graph.output.map(({ name }) => name));
    this.captured = new Set(graph.node.flatMap(capturedBy));
    for (const node of graph.node) {
      for (const name of node.output) this.#makers.set(name, node);
      for (const name of new Set(node.input)) {
        const readers = this.#readers.get(name);
        if (readers === undefined) this.#readers.set(name, [node]);
        else readers.push(node);
      }
    }
    this.#names = new Set([
      ...graph.input.map(({ name }) => name),
      ...this.constants.keys(),
      ...this.#makers.keys(),
      ...this.captured,
    ]);
  }

  maker(value: string): NodeProto | undefined {
    return this.#makers.get(value);
  }

  readers(value: string): readonly NodeProto[] {
    return this.#readers.get(value) ?? [];
  }

  /** The only node that reads the value, if nothing else at all does. */
  soleReader(value: string): NodeProto | undefined {
    const readers = this.readers(value);
    return readers.length === 1 && !this.outputs.has(value) && !this.captured.has(value) ? readers[0] : undefined;
  }

  /** A name that no value has, begun with this one. */
  freshName(hint: string): string {
    let name = hint;
    for (let count = 2; this.#names.has(name); count++) name = `${hint}_${count}`;
    this.#names.add(name);
    return name;
  }
}

/** What people call a node: its name, or where exporters give none, its first output. */
export function labelOf(node: NodeProto): string {
  return node.name !== '' ? node.name : (node.output[0] ?? node.opType);
}

/** Whether the operator is ONNX's own of this type. */
export function isStandard(node: NodeProto, ...opTypes: readonly string[]): boolean {
  return (node.domain === '' || node.domain === 'ai.onnx') && opTypes.includes(node.opType);
}

export function hasSubgraph(node: NodeProto): boolean {
  return node.attribute.some(({ g }) => g !== undefined);
}

function capturedBy(node: NodeProto): string[] {
  return node.attribute.flatMap(({ g }) =>
    g === undefined
      ? []
      : [...g.node.flatMap((inner) => [...inner.input, ...capturedBy(inner)]), ...g.output.map(({ name }) => name)],
  );
}
