import type { GraphBuilder } from '../onnx/graph-builder.ts';

const written = new WeakMap<GraphBuilder, Map<string, string>>();

/** A value that a graph is to have once: the forward pass and two gradients lay the same numbers out anew. `key` says which it is. */
export function once(graph: GraphBuilder, key: string, write: () => string): string {
  const values = written.get(graph) ?? new Map<string, string>();
  written.set(graph, values);
  const value = values.get(key) ?? write();
  values.set(key, value);
  return value;
}
