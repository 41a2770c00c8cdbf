import { gradientRule } from '../autodiff/gradients.ts';
import { ancestors, dependents } from '../autodiff/reachability.ts';
import { graphOf } from '../onnx/file.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { layoutOf, splitModel } from '../onnx/parameters.ts';

/** What training would do with one node: differentiate it, leave it as it is, or fail at it. */
export interface NodeVerdict {
  operator: string;
  node: string;
  verdict: 'trainable' | 'constant' | 'not differentiable';
}

/** Says node by node whether a model, split or whole, can be trained. */
export function checkTrainable(model: ModelProto): NodeVerdict[] {
  const { node: nodes, output } = graphOf(model);
  const own = layoutOf(model);
  const { parameters } = own.length > 0 ? own : splitModel(model).layout;
  const moving = dependents(
    nodes,
    parameters.map(({ name }) => name),
  );
  const heard = ancestors(
    nodes,
    output.slice(0, 1).map(({ name }) => name),
  );
  return nodes.map((node) => {
    const isOnPath = node.output.some((name) => heard.has(name) && moving.has(name));
    const verdict = !isOnPath ? 'constant' : gradientRule(node) === undefined ? 'not differentiable' : 'trainable';
    return { operator: node.opType, node: node.name, verdict };
  });
}
