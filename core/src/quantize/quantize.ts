import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { Range } from './affine.ts';
import { quantizeBlocks } from './blocks.ts';
import type { AccuracyLevel } from './blocks.ts';
import { quantizeDynamic } from './dynamic.ts';
import { QuantizeError } from './errors.ts';
import { toHalf } from './half.ts';
import type { QuantizedModel, Selection } from './select.ts';
import { quantizeStatic } from './static.ts';
import type { StaticOptions } from './static.ts';

/** Names of the forms, as people type them. */
export const quantizedForms = ['dynamic-int8', 'static-int8', 'int8-blocks', 'int4-blocks', 'fp16'] as const;
export type QuantizedForm = (typeof quantizedForms)[number];

export interface QuantizeOptions extends Selection, StaticOptions {
  /** From calibration; `static-int8` needs them. */
  ranges?: ReadonlyMap<string, Range>;
  /** Numbers that share a scale in the forms with blocks. */
  blockSize?: number;
  /** How the runtime may compute in the forms with blocks. */
  accuracyLevel?: AccuracyLevel;
}

/** Makes a form of the model. */
export function quantizeModel(model: ModelProto, form: QuantizedForm, options: QuantizeOptions = {}): QuantizedModel {
  switch (form) {
    case 'dynamic-int8':
      return quantizeDynamic(model, options);
    case 'static-int8':
      if (options.ranges !== undefined) return quantizeStatic(model, options.ranges, options);
      throw new QuantizeError('static-int8 needs ranges; calibrate the model first');
    case 'int8-blocks':
      return quantizeBlocks(model, { ...options, bits: 8 });
    case 'int4-blocks':
      return quantizeBlocks(model, { ...options, bits: 4 });
    case 'fp16':
      return toHalf(model, options);
  }
}
