import fc from 'fast-check';
import * as ort from 'onnxruntime-node';
import { beforeAll, describe, expect, test } from 'vitest';
import { writeModel } from '../onnx/file.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import { affineOf, codeLimits, dequantize, quantize, roundHalfEven } from './affine.ts';
import type { ByteType } from './affine.ts';
import { quantizeChannels, transposed } from './channels.ts';
import { blocksOf } from './blocks.ts';
import { float16Bits, float16Value } from './float16.ts';

const finite = fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e30), max: Math.fround(1e30) });
const ordinary = fc.float({ noNaN: true, noDefaultInfinity: true, min: -1000, max: 1000 });

test('halves are rounded to the even neighbour', () => {
  expect([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.500001].map(roundHalfEven)).toEqual([-2, -2, 0, 0, 2, 2, 3]);
});

describe.each(['int8', 'uint8'] as const)('%s', (type) => {
  const range = fc.tuple(finite, finite).map(([a, b]) => ({ min: Math.min(a, b), max: Math.max(a, b) }));

  test('zero is exact, whatever the range', () => {
    fc.assert(
      fc.property(range, (bounds) => {
        const affine = affineOf(bounds, type);
        expect(dequantize(quantize(Float32Array.of(0), affine), affine)[0]).toBe(0);
      }),
    );
  });

  test('a number in range comes back within half a step, and a little for float32', () => {
    fc.assert(
      fc.property(range, fc.double({ min: 0, max: 1, noNaN: true }), (bounds, share) => {
        const affine = affineOf(bounds, type);
        const value = Math.fround(bounds.min + (bounds.max - bounds.min) * share);
        const [back] = dequantize(quantize(Float32Array.of(value), affine), affine);
        // The zero point is rounded, so an end of the range may lie half a step outside.
        expect(Math.abs(back! - value)).toBeLessThanOrEqual(affine.scale * 1.0001);
      }),
    );
  });

  test('degenerate ranges have a usable scale', () => {
    const affines = [0, 1e-45, -5, 5].map((value) => affineOf({ min: value, max: value }, type));
    for (const { scale, zeroPoint } of affines) {
      expect(scale).toBeGreaterThan(0);
      expect(zeroPoint).toBeGreaterThanOrEqual(codeLimits[type].min);
      expect(zeroPoint).toBeLessThanOrEqual(codeLimits[type].max);
    }
  });
});

test.each([
  [-Infinity, 0],
  [0, Infinity],
  [NaN, 1],
  [1, -1],
])('the range %d to %d is refused', (min, max) => {
  expect(() => affineOf({ min, max }, 'uint8')).toThrow('cannot be quantized');
});

describe("the runtime's own operators", () => {
  const sessions = new Map<ByteType, ort.InferenceSession>();

  beforeAll(async () => {
    for (const type of ['int8', 'uint8'] as const) {
      const elemType = type === 'int8' ? TensorProto_DataType.INT8 : TensorProto_DataType.UINT8;
      const graph = {
        name: 'rounding',
        node: [
          makeNode('QuantizeLinear', ['x', 'scale', 'zero'], ['codes']),
          makeNode('DequantizeLinear', ['codes', 'scale', 'zero'], ['back']),
        ],
        initializer: [],
        input: [makeValue('x', ['n']), makeValue('scale', []), makeValue('zero', [], elemType)],
        output: [makeValue('codes', ['n'], elemType), makeValue('back', ['n'])],
      };
      sessions.set(type, await ort.InferenceSession.create(writeModel(makeModel(graph))));
    }
  });

  test.each(['int8', 'uint8'] as const)('%s codes and numbers are equal to the last bit', async (type) => {
    const session = sessions.get(type)!;
    await fc.assert(
      fc.asyncProperty(
        fc.array(ordinary, { minLength: 1, maxLength: 200 }),
        fc.float({ min: Math.fround(1e-6), max: 100, noNaN: true }),
        fc.integer(codeLimits[type]),
        async (list, scale, zeroPoint) => {
          // Ties are what implementations differ in.
          const values = Float32Array.from([...list, ...list.map((value) => (Math.trunc(value) + 0.5) * scale)]);
          const affine = { type, scale, zeroPoint };
          const zero = type === 'int8' ? Int8Array.of(zeroPoint) : Uint8Array.of(zeroPoint);
          const results = await session.run({
            x: new ort.Tensor('float32', values, [values.length]),
            scale: new ort.Tensor('float32', Float32Array.of(scale), []),
            zero: new ort.Tensor(type, zero as Uint8Array, []),
          });
          const codes = quantize(values, affine);
          expect([...codes]).toEqual(Array.from(results['codes']!.data as Int8Array));
          const bits = (data: Float32Array): Uint32Array => new Uint32Array(data.slice().buffer);
          expect(bits(dequantize(codes, affine))).toEqual(bits(results['back']!.data as Float32Array));
        },
      ),
    );
  });
});

describe('weights per channel', () => {
  const matrix = fc.tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 6 })).chain(([rows, columns]) =>
    fc.record({
      shape: fc.constant([rows, columns]),
      axis: fc.integer({ min: 0, max: 1 }),
      values: fc
        .array(ordinary, { minLength: rows * columns, maxLength: rows * columns })
        .map((list) => Float32Array.from(list)),
    }),
  );

  test('every number comes back within half a step of its channel, and -128 is never used', () => {
    fc.assert(
      fc.property(matrix, fc.constantFrom(7 as const, 8 as const), ({ shape, axis, values }, bits) => {
        const { codes, scales } = quantizeChannels(values, shape, axis, { bits });
        values.forEach((value, index) => {
          const scale = scales[axis === 0 ? Math.floor(index / shape[1]!) : index % shape[1]!]!;
          expect(Math.abs(codes[index]! * scale - value)).toBeLessThanOrEqual(scale * 0.5001);
          expect(Math.abs(codes[index]!)).toBeLessThanOrEqual(2 ** (bits - 1) - 1);
        });
      }),
    );
  });

  test('a channel of zeros has scale one', () => {
    const { codes, scales } = quantizeChannels(Float32Array.of(0, 2, 0, -4), [2, 2], 1);
    expect([[...codes], [...scales]]).toEqual([
      [0, 64, 0, -127],
      [1, Math.fround(4 / 127)],
    ]);
  });

  test.each([Infinity, -Infinity, NaN])('%d in a weight is refused', (value) => {
    expect(() => quantizeChannels(Float32Array.of(1, value), [1, 2], 1)).toThrow('infinity or NaN');
  });

  test('transposing twice gives the matrix again', () => {
    fc.assert(
      fc.property(matrix, ({ shape: [rows, columns], values }) => {
        expect(transposed(transposed(values, rows!, columns!), columns!, rows!)).toEqual(values);
      }),
    );
  });
});

describe('blocks', () => {
  test.each([4, 8] as const)('%d bits come back within a step of the block', (bits) => {
    const column = fc.array(ordinary, { minLength: 1, maxLength: 70 });
    fc.assert(
      fc.property(column, (list) => {
        const values = Float32Array.from(list);
        const { codes, scales } = blocksOf(values, 1, values.length, { bits, blockSize: 16 });
        const middle = 2 ** (bits - 1);
        values.forEach((value, index) => {
          const byte = codes[bits === 8 ? index : index >> 1]!;
          const code = bits === 8 ? byte : index % 2 === 0 ? byte & 15 : byte >> 4;
          const scale = scales[Math.floor(index / 16)]!;
          expect(Math.abs((code - middle) * scale - value)).toBeLessThanOrEqual(
            Math.abs(scale) * 1.0001 + middle * 2 ** -126,
          );
        });
      }),
    );
  });
});

describe('float16', () => {
  test('every code is its own number again', () => {
    for (let code = 0; code < 0x10000; code++) {
      const value = float16Value(code);
      if (!Number.isNaN(value)) expect(float16Bits(value)).toBe(code);
    }
  });

  test('a number goes to the nearest code, ties to even', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, min: -65504, max: 65504 }), (value) => {
        const code = float16Bits(value);
        const distance = Math.abs(float16Value(code) - value);
        for (const other of [code - 1, code + 1].filter((near) => (near & 0x7c00) !== 0x7c00 && near >= 0)) {
          const away = Math.abs(float16Value(other) - value);
          expect(away > distance || (away === distance && code % 2 === 0) || (code & 0x7fff) === 0).toBe(true);
        }
      }),
    );
  });
});
