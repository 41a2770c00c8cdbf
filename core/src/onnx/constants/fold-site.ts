import { room } from './constant.ts';
import type { Constant, Numbers } from './constant.ts';
import type { ShapeSite, ValueType } from '../shape-rule.ts';
import { sizeOf } from '../../tensor/shape.ts';

/** A node whose first output may be known before the model runs. */
export interface FoldSite extends ShapeSite {
  /** What is known of the first output. */
  output: ValueType;
  constant(position: number): Constant | undefined;
}

/** The numbers of the first output, in its shape and element type; undefined where they are known at run time only. */
export type Fold = (site: FoldSite) => Numbers | undefined;

/** The node's inputs if all of them are constants. */
export function constantsOf(site: FoldSite): Constant[] | undefined {
  const constants = site.node.input.map((_, position) => site.constant(position));
  return constants.every((constant) => constant !== undefined) ? constants : undefined;
}

/** The same, if all of them are of the first output's element type. */
export function likeConstantsOf(site: FoldSite): Constant[] | undefined {
  const constants = constantsOf(site);
  return constants?.every(({ elemType }) => elemType === site.output.elemType) === true ? constants : undefined;
}

/** Room for the first output. */
export function roomFor({ output }: FoldSite): Numbers | undefined {
  return room(output.elemType, sizeOf(output.shape));
}
