import { expect, test } from 'vitest';
import { ConfigError } from '../errors.ts';
import { localLayers } from './local-layers.ts';

const layout = {
  length: 7,
  parameters: [
    { name: 'body.weight', shape: [3], offset: 0, length: 3 },
    { name: 'norm.bias', shape: [1], offset: 3, length: 1 },
    { name: 'head.weight', shape: [2], offset: 4, length: 2 },
    { name: 'head.bias', shape: [1], offset: 6, length: 1 },
  ],
};
const whole = Float32Array.of(1, 2, 3, 4, 5, 6, 7);

test('what a pattern names is taken out of a vector, left out of it, and put back', () => {
  const layers = localLayers(layout, ['head.*', 'norm.bias']);
  expect(layers.length).toBe(4);
  expect(layers.take(whole)).toEqual(Float32Array.of(4, 5, 6, 7));
  expect(layers.without(whole)).toEqual(Float32Array.of(1, 2, 3, 0, 0, 0, 0));
  expect(layers.put(new Float32Array(7), layers.take(whole))).toEqual(Float32Array.of(0, 0, 0, 4, 5, 6, 7));
  expect(whole).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6, 7));
});

test('a dot is a dot, and a star is anything', () => {
  expect(localLayers(layout, ['*.bias']).take(whole)).toEqual(Float32Array.of(4, 7));
  expect(() => localLayers(layout, ['head_weight'])).toThrow(ConfigError);
  expect(() => localLayers(layout, ['hea.weight'])).toThrow(
    /no parameter is named "hea.weight": there are body.weight/,
  );
});

test('without a pattern everything is shared; with a pattern for everything nothing is', () => {
  expect(localLayers(layout)).toMatchObject({ length: 0 });
  expect(localLayers(layout).without(whole)).toBe(whole);
  expect(() => localLayers(layout, ['*'])).toThrow(/nothing is left to learn together/);
});
