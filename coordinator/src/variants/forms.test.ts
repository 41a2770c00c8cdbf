import { ConfigError } from '@commonweight/core';
import { expect, test } from 'vitest';
import { parseVariantPolicy } from './forms.ts';

test('forms, the margin and how many agents calibrate are taken as they are given, once each', () => {
  expect(parseVariantPolicy({ forms: ['int8-static', 'int8-static'], calibrationAgentsMin: 2 })).toEqual({
    forms: ['int8-static'],
    accuracyDropPointsMax: 0.5,
    calibrationAgentsMin: 2,
  });
  expect(parseVariantPolicy({ forms: ['int8-dynamic'], accuracyDropPointsMax: 1 })).toEqual({
    forms: ['int8-dynamic'],
    accuracyDropPointsMax: 1,
  });
});

test.each(['minmax', 'percentile', 'entropy', 'mse'])('ranges may be chosen by %s', (calibrationMethod) => {
  const forms = ['int8-static'];
  expect(parseVariantPolicy({ forms, calibrationMethod })).toEqual({
    forms,
    accuracyDropPointsMax: 0.5,
    calibrationMethod,
  });
});

test.each<[object, string]>([
  [{ forms: [] }, 'variants.forms must list some of int8-dynamic, int8-blocks, int8-static, int4-blocks, fp16'],
  [{ forms: ['int3'] }, 'variants.forms must list some of'],
  [{ forms: ['int8-static'], accuracyDropPointsMax: -1 }, 'variants.accuracyDropPointsMax must be'],
  [{ forms: ['int8-static'], calibrationAgentsMin: 1 }, 'a whole number from 2 to 16: the ranges of one agent alone'],
  [{ forms: ['int8-static'], calibrationAgentsMin: 2.5 }, 'variants.calibrationAgentsMin must be'],
  [{ forms: ['int8-static'], calibrationAgentsMin: '3' }, 'variants.calibrationAgentsMin must be'],
  [{ forms: ['int8-static'], calibrationMethod: 'median' }, 'must be one of minmax, percentile, entropy, mse'],
  [{ forms: ['int8-static'], calibrationMethod: '' }, 'variants.calibrationMethod must be'],
  [{ forms: ['int8-static'], more: 1 }, 'variants has no key "more"'],
])('%j is refused', (given, words) => {
  const parse = (): unknown => parseVariantPolicy(given as Record<string, unknown>);
  expect(parse).toThrow(ConfigError);
  expect(parse).toThrow(words);
});
