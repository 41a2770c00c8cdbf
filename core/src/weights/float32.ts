import { CodecError } from '../errors.ts';
import { weightsFromBytes, weightsToBytes } from './bytes.ts';
import type { Encoding } from './encoding.ts';

/** IEEE 754 binary32, little endian. Values are rounded onto the grid, which drops only bits below its step. */
export const float32: Encoding = {
  name: 'float32',
  byteLength: (length) => 4 * length,
  partsOf: (_length, start, end) => [{ start: 4 * start, end: 4 * end }],
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
  decode: (payload, length) => {
    if (payload.length !== 4 * length) {
      throw new CodecError(`a float32 payload of ${length} values has ${4 * length} bytes, this one ${payload.length}`);
    }
    return weightsFromBytes(payload);
  },
};
