import { expect, test } from 'vitest';
import { inputsFrom } from './json-inputs.ts';

const one = [{ name: 'input', dtype: 'float', dims: [-1, 2] }];

test('nested arrays are flattened for the only input', () => {
  expect(
    inputsFrom(
      [
        [1, 2],
        [3, 4],
      ],
      one,
    ),
  ).toEqual({ input: Float32Array.of(1, 2, 3, 4) });
});

test('an object names its inputs, and their types follow the model', () => {
  const specs = [...one, { name: 'step', dtype: 'int64', dims: [1] }];
  expect(inputsFrom({ input: [1, 2], step: [7] }, specs)).toEqual({
    input: Float32Array.of(1, 2),
    step: BigInt64Array.of(7n),
  });
});

test('an unknown input, a string and a bare number are refused by name', () => {
  expect(() => inputsFrom({ inptu: [1] }, one)).toThrow("no input 'inptu': it has input");
  expect(() => inputsFrom(['a'], one)).toThrow('holds "a", which is not a number');
  expect(() => inputsFrom(3, one)).toThrow('neither an array nor an object');
});
