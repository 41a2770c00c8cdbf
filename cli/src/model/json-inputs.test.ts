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

test('every type is taken, texts too, and a shape that several open sizes leave open', () => {
  const of = (dtype: string, ...dims: number[]) => ({ name: dtype, dtype, dims });
  const specs = [of('string', -1, 1), of('bool', -1), of('uint64', -1), of('float16', -1), of('int64', -1, -1)];
  const json = { string: [['a'], ['b']], bool: [true, 0], uint64: [7], float16: [0.5], int64: [[1, 2, 3]] };
  expect(inputsFrom(json, specs)).toEqual({
    string: ['a', 'b'],
    bool: Uint8Array.of(1, 0),
    uint64: BigUint64Array.of(7n),
    float16: Float32Array.of(0.5),
    int64: { data: BigInt64Array.of(1n, 2n, 3n), dims: [1, 3] },
  });
  expect(() => inputsFrom({ string: [1] }, specs)).toThrow('holds 1, which is no text');
  expect(() => inputsFrom({ uint64: [0.5] }, specs)).toThrow('holds 0.5, which is no whole number');
});

test('an unknown input, a string and a bare number are refused by name', () => {
  expect(() => inputsFrom({ inptu: [1] }, one)).toThrow("no input 'inptu': it has input");
  expect(() => inputsFrom(['a'], one)).toThrow('holds "a", which is not a number');
  expect(() => inputsFrom(3, one)).toThrow('neither an array nor an object');
});
