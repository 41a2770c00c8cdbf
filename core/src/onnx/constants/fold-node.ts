import { OnnxError } from '../errors.ts';
import type { Constant } from './constant.ts';
import { arithmeticFolds } from './fold-arithmetic.ts';
import { movingFolds } from './fold-moving.ts';
import type { Fold, FoldSite } from './fold-site.ts';
import { sizeOf } from '../../tensor/shape.ts';

const folds: Readonly<Record<string, Fold>> = { ...movingFolds, ...arithmeticFolds };

/**
 * The first output of a node of the standard, where it follows from shapes and constants: exporters write Shape, Gather, Concat and
 * the like in front of a Reshape, and all of them are known once the sizes are. Bit for bit what a runtime computes.
 * Undefined where it is known at run time only, is not the same in every runtime, or has more than `lengthMax` numbers.
 */
export function foldNode(site: FoldSite, lengthMax: number): Constant | undefined {
  const { node, output } = site;
  const fold = Object.hasOwn(folds, node.opType) ? folds[node.opType] : undefined;
  if (fold === undefined || sizeOf(output.shape) > lengthMax) return undefined;
  const data = fold(site);
  if (data === undefined) return undefined;
  if (data.length !== sizeOf(output.shape)) {
    throw new OnnxError(`node '${node.name}' (${node.opType}) makes another shape than it should; mend the model`);
  }
  return { ...output, data };
}
