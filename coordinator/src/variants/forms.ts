import { ConfigError, type QuantizedForm } from '@commonweight/core';

/** The forms that are made without data, by the names that apps know them by. */
export const variantForms: Readonly<Record<VariantForm, QuantizedForm>> = {
  'int8-dynamic': 'dynamic-int8',
  'int8-blocks': 'int8-blocks',
};

/** Activations measured at every run, or left as they are while weights are codes in blocks. */
export type VariantForm = 'int8-dynamic' | 'int8-blocks';

/** Which forms a version gets, and what they may cost. */
export interface VariantPolicy {
  forms: readonly VariantForm[];
  /** Points of accuracy, of 100. */
  accuracyDropPointsMax: number;
}

export const ACCURACY_DROP_POINTS_MAX = 0.5;

const isForm = (name: unknown): name is VariantForm => typeof name === 'string' && Object.hasOwn(variantForms, name);

/** Forms and margin as somebody gives them. Throws ConfigError naming the key. */
export function parseVariantPolicy(given: Record<string, unknown>): VariantPolicy {
  const { forms, accuracyDropPointsMax = ACCURACY_DROP_POINTS_MAX, ...others } = given;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) {
    throw new ConfigError(`variants has no key "${unknown}": it has forms and accuracyDropPointsMax`, 'variants');
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
  return { forms: [...new Set(forms)], accuracyDropPointsMax };
}
