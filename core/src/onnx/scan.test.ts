import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { cnn } from '../models/cnn.ts';
import { contractOf } from './contract.ts';
import { OnnxError } from './errors.ts';
import { readModel, writeModel } from './file.ts';
import { splitModel } from './parameters.ts';
import { scanModel } from './scan.ts';

const whole = writeModel(cnn({ height: 4, width: 4, filters: [2], kernel: 3, dense: 4, outputs: 3, seed: 1 }));

/** Reads bytes as a coordinator does with what it is sent. */
function read(bytes: Uint8Array): 'read' | 'refused' {
  try {
    contractOf(readModel(splitModel(readModel(bytes)).graph));
    return 'read';
  } catch (error) {
    if (error instanceof OnnxError) return 'refused';
    throw error;
  }
}

test('a file that is cut anywhere is refused, and by nothing but its error', () => {
  expect(read(whole)).toBe('read');
  for (let length = 0; length < whole.length; length++) {
    // What is cut off behind the graph leaves a model that names no operator set.
    expect(read(whole.slice(0, length)), String(length)).toBe('refused');
  }
});

test('bytes that are changed, put in or left out never do more than to be refused', () => {
  const change = fc.record({
    at: fc.nat(whole.length - 1),
    take: fc.nat(4),
    put: fc.uint8Array({ maxLength: 6 }),
  });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
      let bytes: Uint8Array = whole;
      for (const { at, take, put } of changes) {
        bytes = Uint8Array.of(...bytes.subarray(0, at), ...put, ...bytes.subarray(at + take));
      }
      expect(['read', 'refused']).toContain(read(bytes));
    }),
    { numRuns: 1000 },
  );
});

test('any bytes at all are scanned to their end or refused', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        scanModel(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(OnnxError);
      }
    }),
    { numRuns: 1000 },
  );
});
