import { activation } from './activation.ts';
import { convolution } from './convolution.ts';
import { elementwise } from './elementwise.ts';
import { filling } from './filling.ts';
import { indexing } from './indexing.ts';
import { layout } from './layout.ts';
import { linear } from './linear.ts';
import { normalization } from './normalization.ts';
import type { OperatorTable } from './operator.ts';
import { pooling } from './pooling.ts';
import { reduction } from './reduction.ts';

/** One row per ONNX operator that is computed with TensorFlow.js. */
export const operators: OperatorTable = {
  ...elementwise,
  ...activation,
  ...linear,
  ...convolution,
  ...pooling,
  ...filling,
  ...layout,
  ...indexing,
  ...reduction,
  ...normalization,
};
