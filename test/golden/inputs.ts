import type { GridSpec } from '@commonweight/core';
import { gridFor } from '@commonweight/core';

export const grid: GridSpec = gridFor({ valueMaxExponent: 3, weightMax: 1000, cohortMax: 100 });
const step = 2 ** grid.lsbExponent;

/** Seed of the stochastic rounding. */
export const SEED = 7;

/** Values whose bytes are promised, by what is special about them. */
export const inputs: Readonly<Record<string, Float32Array>> = {
  zeros: new Float32Array(40),
  'negative zero': Float32Array.of(-0, 0, -0, 1),
  subnormals: Float32Array.of(2 ** -149, -(2 ** -149), 2 ** -127, -(2 ** -127), 2 ** -126 - 2 ** -149),
  'subnormals beside ordinary values': Float32Array.of(2 ** -149, 0.5, -(2 ** -140), -0.25),
  'one step and parts of it': Float32Array.of(step, -step, step / 2, -step / 2, 1.5 * step, 3 * step, -7 * step),
  'the largest values and what is clipped to them': Float32Array.of(8, -8, 7.9375, -7.9375, 9, -9, 3.4e38, -Infinity),
  'powers of two': Float32Array.from({ length: 32 }, (_, i) => 2 ** (2 - i)),
  'edges of an exponent': Float32Array.of(127 / 64, 1.985, 1.99, 2, -127 / 64, -2),
  'three blocks, the last one cut': Float32Array.from({ length: 70 }, (_, i) => ((i * 37) % 71) / 64 - 0.55),
  'not a number': Float32Array.from({ length: 33 }, (_, i) => (i === 32 ? Number.NaN : i)),
  nothing: new Float32Array(0),
};

/** What the turn of rotated values follows from. */
export const ROTATION_SEED = 11n;

/** Share of the values of these that an encoding of the largest sends. */
export const TOP_K = 0.125;

/** Values for encodings that send the largest alone: besides the above, what shows their blocks and both forms of positions. */
export const sparseInputs: Readonly<Record<string, Float32Array>> = {
  ...inputs,
  'values of one magnitude': Float32Array.from({ length: 24 }, (_, i) => (i % 2 === 0 ? 0.5 : -0.5)),
  'two blocks, few values far apart': Float32Array.from({ length: 8192 + 600 }, (_, i) => (i % 997 === 300 ? i / 4096 : 0)),
  'a block where most values are sent, and one where none is': Float32Array.from({ length: 8192 + 1600 }, (_, i) =>
    i >= 8192 ? ((i * 37) % 71) / 64 - 0.55 : 0,
  ),
};
