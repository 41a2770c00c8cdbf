import { activation } from './activation.ts';
import { convolution } from './convolution.ts';
import { elementwise } from './elementwise.ts';
import { linear } from './linear.ts';
import { normalization } from './normalization.ts';
import { pooling } from './pooling.ts';
import { reduce } from './reduce.ts';
import type { GradientRule, GradientTable } from './rule.ts';
import { shape } from './shape.ts';
import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';

/** One row per differentiable operator; an operator without a row cannot be trained through. */
export const gradients: GradientTable = {
  ...elementwise,
  ...activation,
  ...linear,
  ...convolution,
  ...pooling,
  ...shape,
  ...reduce,
  ...normalization,
};

export function gradientRule(node: NodeProto): GradientRule | undefined {
  if (node.domain !== '' && node.domain !== 'ai.onnx') return undefined;
  return Object.hasOwn(gradients, node.opType) ? gradients[node.opType] : undefined;
}
