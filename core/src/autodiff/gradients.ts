import { activation } from './activation.ts';
import { compositeDomain, composites } from './composites.ts';
import { convolution } from './convolution.ts';
import { einsum } from './einsum.ts';
import { elementwise } from './elementwise.ts';
import { indexing } from './indexing.ts';
import { linear } from './linear.ts';
import { normalization } from './normalization.ts';
import { pooling } from './pooling.ts';
import { reduce } from './reduce.ts';
import type { GradientRule, GradientTable } from './rule.ts';
import { shape } from './shape.ts';
import { tiling } from './tiling.ts';
import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';

/** The rows by family, as the documentation lists them. */
export const gradientFamilies: Readonly<Record<string, GradientTable>> = {
  'number by number': elementwise,
  activation,
  'matrix product': linear,
  contraction: einsum,
  convolution,
  pooling,
  'laying out': shape,
  'growing and shrinking': tiling,
  'taking and putting by index': indexing,
  reduction: reduce,
  normalisation: normalization,
};

/** One row per differentiable operator; an operator without a row cannot be trained through. */
export const gradients: GradientTable = Object.assign({}, ...Object.values(gradientFamilies));

export function gradientRule(node: NodeProto): GradientRule | undefined {
  if (node.domain === compositeDomain) return composites[node.opType];
  if (node.domain !== '' && node.domain !== 'ai.onnx') return undefined;
  return Object.hasOwn(gradients, node.opType) ? gradients[node.opType] : undefined;
}
