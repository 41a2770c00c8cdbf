import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';

// Their outputs are numbers about a tensor, not functions of its numbers.
const descriptions: readonly string[] = ['Shape', 'Size'];

/** Values that change when any of `roots` changes. */
export function dependents(nodes: readonly NodeProto[], roots: Iterable<string>): Set<string> {
  const reached = new Set(roots);
  for (const node of nodes) {
    if (descriptions.includes(node.opType) || !node.input.some((name) => reached.has(name))) continue;
    for (const name of node.output) if (name !== '') reached.add(name);
  }
  return reached;
}

/** Values that any of `targets` is computed from, themselves included. */
export function ancestors(nodes: readonly NodeProto[], targets: Iterable<string>): Set<string> {
  const reached = new Set(targets);
  for (const node of nodes.toReversed()) {
    if (!node.output.some((name) => reached.has(name))) continue;
    for (const name of node.input) if (name !== '') reached.add(name);
  }
  return reached;
}
