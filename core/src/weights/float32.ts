import { weightsFromBytes, weightsToBytes } from './bytes.ts';
import { dense } from './dense.ts';
import type { ValueEncoding } from './encoding.ts';

/** IEEE 754 binary32, little endian. Values are rounded onto the grid, which drops only bits below its step. */
export const float32: ValueEncoding = dense({
  name: 'float32',
  byteLength: (length) => 4 * length,
  exponentBytes: () => 0,
  encode: (values, grid, random) => {
    const perStep = 2 ** -grid.lsbExponent;
    const step = 2 ** grid.lsbExponent;
    const max = 2 ** grid.valueMaxExponent;
    const rounded = values.map((value) => {
      const clipped = Math.min(max, Math.max(-max, value));
      const steps = clipped * perStep;
      return Number.isInteger(steps) ? clipped : Math.floor(steps + random.uniform()) * step;
    });
    return weightsToBytes(rounded);
  },
  valuesIn: weightsFromBytes,
});
