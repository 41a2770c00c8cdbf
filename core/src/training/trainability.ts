import { gradientRule } from '../autodiff/gradients.ts';
import { mendOf, rewriteOf } from '../autodiff/rewrite/write-node.ts';
import { ancestors, dependents } from '../autodiff/reachability.ts';
import { graphOf, readModel } from '../onnx/file.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { OnnxError } from '../onnx/errors.ts';
import { layoutOf, splitModel } from '../onnx/parameters.ts';
import { requireRunnable } from '../onnx/runnable.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { TrainingPlan } from './plan.ts';
import { buildTrainingGraph } from './training-graph.ts';

/** What training would do with one node: differentiate it, leave it as it is, or fail at it. */
export interface NodeVerdict {
  operator: string;
  node: string;
  verdict: 'trainable' | 'constant' | 'not differentiable';
  /** What to do about one that is in the way. */
  mend?: string;
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
    const known = { operator: node.opType, node: node.name };
    if (!isOnPath) return { ...known, verdict: 'constant' };
    const isKnown = gradientRule(node) !== undefined || rewriteOf(node) !== undefined;
    return isKnown
      ? { ...known, verdict: 'trainable' }
      : { ...known, verdict: 'not differentiable', mend: mendOf(node) };
  });
}

/** What a whole model is to training. */
export interface TrainingSurvey {
  nodes: NodeVerdict[];
  /** Numbers that are trained, and the tensors that they are in. */
  parameters: number;
  tensors: number;
  /** The model without its weights, as engines get it to train. */
  graph: Uint8Array;
  /** Bytes of all values of one step, were no memory used twice: a bound from above. Undefined where there is an obstacle. */
  stepBytes?: number;
  /** Why it cannot be trained as asked, and what to do. */
  obstacle?: string;
}

/** Says of a whole model whether a plan can train it: by writing the training graph. Throws OnnxError where it is no sound model. */
export function surveyTraining(model: ModelProto, plan: TrainingPlan): TrainingSurvey {
  requireRunnable(model);
  const nodes = checkTrainable(model);
  const { graph, layout } = splitModel(model);
  const found = {
    nodes,
    graph,
    parameters: layout.parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0),
    tensors: layout.parameters.length,
  };
  try {
    const { valueBytes } = buildTrainingGraph(readModel(graph), plan);
    return { ...found, stepBytes: valueBytes };
  } catch (error) {
    if (!(error instanceof OnnxError)) throw error;
    return { ...found, obstacle: error.message };
  }
}
