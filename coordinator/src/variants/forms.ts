import { calibrationMethods, ConfigError, type CalibrationMethod, type QuantizedForm } from '@commonweight/core';

/** Forms, by the names that apps know them by. */
export const variantForms: Readonly<Record<VariantForm, QuantizedForm>> = {
  'int8-dynamic': 'dynamic-int8',
  'int8-blocks': 'int8-blocks',
  'int8-static': 'static-int8',
  'int4-blocks': 'int4-blocks',
  fp16: 'fp16',
};

/**
 * Activations measured at every run, or left as they are while weights are codes in blocks, or of ranges that are fixed: those that the version
 * keeps, or else what agents measured. And everything in half of the bits, but for inputs and outputs.
 */
export type VariantForm = 'int8-dynamic' | 'int8-blocks' | 'int8-static' | 'int4-blocks' | 'fp16';

/** Which forms a version gets, and what they may cost. */
export interface VariantPolicy {
  forms: readonly VariantForm[];
  /** Points of accuracy, of 100. */
  accuracyDropPointsMax: number;
  /** Agents whose data the ranges of `int8-static` have to come from, and what is measured of forms where no evaluator does. */
  calibrationAgentsMin?: number;
  /** How those ranges are chosen from what the agents counted. */
  calibrationMethod?: CalibrationMethod;
}

/** With fewer, what they add up to would tell of one of them. */
export const CALIBRATION_AGENTS_MIN = 3;
/** No number that an agent saw is clipped. */
export const CALIBRATION_METHOD: CalibrationMethod = 'minmax';
export const CALIBRATION_AGENTS_LEAST = 2;
export const CALIBRATION_AGENTS_MOST = 16;

export const ACCURACY_DROP_POINTS_MAX = 0.5;

const isForm = (name: unknown): name is VariantForm => typeof name === 'string' && Object.hasOwn(variantForms, name);

/** Forms and margin as somebody gives them. Throws ConfigError naming the key. */
export function parseVariantPolicy(given: Record<string, unknown>): VariantPolicy {
  const { forms, accuracyDropPointsMax = ACCURACY_DROP_POINTS_MAX, ...others } = given;
  const { calibrationAgentsMin, calibrationMethod, ...strays } = others;
  const [unknown] = Object.keys(strays);
  if (unknown !== undefined) {
    throw new ConfigError(
      `variants has no key "${unknown}": it has forms, accuracyDropPointsMax, calibrationAgentsMin and calibrationMethod`,
      'variants',
    );
  }
  if (!Array.isArray(forms) || forms.length === 0 || !forms.every(isForm)) {
    throw new ConfigError(`variants.forms must list some of ${Object.keys(variantForms).join(', ')}`, 'variants.forms');
  }
  if (typeof accuracyDropPointsMax !== 'number' || !(accuracyDropPointsMax >= 0 && accuracyDropPointsMax <= 100)) {
    throw new ConfigError(
      'variants.accuracyDropPointsMax must be a number from 0 to 100',
      'variants.accuracyDropPointsMax',
    );
  }
  return {
    forms: [...new Set(forms)],
    accuracyDropPointsMax,
    ...(calibrationAgentsMin === undefined ? {} : { calibrationAgentsMin: agentsIn(calibrationAgentsMin) }),
    ...(calibrationMethod === undefined ? {} : { calibrationMethod: methodIn(calibrationMethod) }),
  };
}

function agentsIn(count: unknown): number {
  if (
    typeof count === 'number' &&
    Number.isInteger(count) &&
    count >= CALIBRATION_AGENTS_LEAST &&
    count <= CALIBRATION_AGENTS_MOST
  ) {
    return count;
  }
  throw new ConfigError(
    `variants.calibrationAgentsMin must be a whole number from ${CALIBRATION_AGENTS_LEAST} to ${CALIBRATION_AGENTS_MOST}: the ranges of one agent alone would tell of its data`,
    'variants.calibrationAgentsMin',
  );
}

function methodIn(name: unknown): CalibrationMethod {
  const method = calibrationMethods.find((each) => each === name);
  if (method !== undefined) return method;
  throw new ConfigError(
    `variants.calibrationMethod must be one of ${calibrationMethods.join(', ')}`,
    'variants.calibrationMethod',
  );
}
