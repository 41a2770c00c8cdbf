/** What can be said of a quantized form on the command line, and of which forms. */
import type { AccuracyLevel, CalibrationMethod, QuantizedForm, QuantizeOptions, WeightBits } from '@commonweight/core';
import { UsageError } from '../output/failure.ts';

export interface FormOptions {
  form: QuantizedForm;
  exclude: readonly string[];
  method?: CalibrationMethod;
  percentile?: number;
  activations?: 'int8' | 'uint8';
  weightBits?: WeightBits;
  blockSize?: number;
  accuracyLevel?: AccuracyLevel;
}

const BLOCKS: readonly QuantizedForm[] = ['int8-blocks', 'int4-blocks'];

/** The forms that a flag means something in. */
const flags: readonly (readonly [keyof FormOptions, string, readonly QuantizedForm[]])[] = [
  ['method', '--method', ['static-int8']],
  ['percentile', '--percentile', ['static-int8']],
  ['activations', '--activations', ['static-int8']],
  ['weightBits', '--weight-bits', ['dynamic-int8', 'static-int8']],
  ['blockSize', '--block-size', BLOCKS],
  ['accuracyLevel', '--accuracy-level', BLOCKS],
];

/** Throws UsageError for a flag that would change nothing. */
export function requireOfForm(options: FormOptions): void {
  const { form, method, percentile } = options;
  const stray = flags.find(([key, , forms]) => options[key] !== undefined && !forms.includes(form));
  if (stray !== undefined) {
    throw new UsageError(`${stray[1]} means nothing in ${form}: leave it out, or take ${stray[2].join(' or ')}`);
  }
  if (percentile !== undefined && method !== 'percentile') {
    throw new UsageError('--percentile is of --method percentile: add that, or leave it out');
  }
}

/** The same for the quantizer; what was not given is as it likes. */
export function settingsOf({
  exclude,
  activations,
  weightBits,
  blockSize,
  accuracyLevel,
}: FormOptions): QuantizeOptions {
  return {
    exclude,
    ...(activations === undefined ? {} : { activations }),
    ...(weightBits === undefined ? {} : { weightBits }),
    ...(blockSize === undefined ? {} : { blockSize }),
    ...(accuracyLevel === undefined ? {} : { accuracyLevel }),
  };
}
