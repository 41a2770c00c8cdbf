import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CodecError } from '../errors.ts';
import { mlp } from '../models/mlp.ts';
import { writeModel } from '../onnx/file.ts';
import { readSafetensors, weightsToSafetensors, withSafetensors, writeSafetensors } from './safetensors.ts';
import type { StoredTensor } from './safetensors.ts';

function fileOf(header: string, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const text = new TextEncoder().encode(header);
  const file = new Uint8Array(8 + text.length + data.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  file.set(data, 8 + text.length);
  return file;
}

test('the bytes of a small file are those of the format', () => {
  const file = writeSafetensors(new Map([['w', { dtype: 'I8', shape: [2], bytes: Uint8Array.of(7, 255) }]]));
  const header = '{"w":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}   ';
  expect(file).toEqual(fileOf(header, Uint8Array.of(7, 255)));
});

test('what was written is read, and equal content is equal bytes', () => {
  const tensor = fc
    .record({ shape: fc.array(fc.nat(4), { maxLength: 3 }), dtype: fc.constantFrom('F32', 'I8', 'F16', 'I64') })
    .map(({ shape, dtype }): StoredTensor => {
      const width = { F32: 4, I8: 1, F16: 2, I64: 8 }[dtype]!;
      const size = shape.reduce((product, axis) => product * axis, width);
      return { dtype: dtype as 'F32', shape, bytes: Uint8Array.from({ length: size }, (_, index) => index) };
    });
  const name = fc.oneof(fc.string(), fc.constantFrom('__proto__', '1', 'a"b\\', 'constructor'));
  fc.assert(
    fc.property(fc.array(fc.tuple(name, tensor), { maxLength: 6 }), (entries) => {
      const tensors = new Map(entries.filter(([key]) => key !== '__metadata__' && key !== '__proto__'));
      const file = writeSafetensors(tensors, new Map([['made', 'here']]));
      const read = readSafetensors(file);
      expect([...read.tensors].sort(byName)).toEqual([...tensors].sort(byName));
      expect(read.metadata.get('made')).toBe('here');
      expect(writeSafetensors(new Map([...tensors].toReversed()), read.metadata)).toEqual(file);
    }),
  );
});

const byName = ([a]: [string, unknown], [b]: [string, unknown]): number => (a < b ? -1 : a > b ? 1 : 0);

test('a model gives its weights and takes them back', () => {
  const shape = { inputs: 4, hidden: [3], outputs: 2 };
  const [one, other] = [mlp({ ...shape, seed: 1 }), mlp({ ...shape, seed: 2 })];
  expect(writeModel(withSafetensors(other, weightsToSafetensors(one)))).toEqual(writeModel(one));
  expect(() => withSafetensors(mlp({ ...shape, outputs: 3, seed: 1 }), weightsToSafetensors(one))).toThrow(
    "'output.weight' is F32[3,2] in the file and F32[3,3] in the model",
  );
  expect(() => withSafetensors(mlp({ ...shape, hidden: [], seed: 1 }), weightsToSafetensors(one))).toThrow("'hidden1.");
});

describe('hostile files are refused', () => {
  const entry = (fields: string): string => `{"w":{${fields}}}`;
  const sound = '"dtype":"I8","shape":[2],"data_offsets":[0,2]';
  const two = Uint8Array.of(1, 2);
  test.each([
    ['nothing', new Uint8Array(3), 'shorter'],
    ['a header as long as memory', Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 127), 'claims'],
    ['a header beyond the end', Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0, 0x7b), 'claims 9 bytes'],
    ['no JSON', fileOf('{"w"'), 'not JSON'],
    ['a list', fileOf('[]'), 'not a JSON object'],
    ['bytes that are no text', fileOf('{"ÿ"}').map((byte) => (byte === 0xc3 ? 0xff : byte)), 'not UTF-8'],
    ['an unknown type', fileOf(entry(sound.replace('I8', 'I9')), two), 'unknown type I9'],
    ['a type from the prototype', fileOf(entry(sound.replace('I8', 'toString')), two), 'unknown type toString'],
    ['a negative size', fileOf(entry(sound.replace('[2]', '[-2]')), two), 'no sound shape'],
    [
      'a size beyond counting',
      fileOf(entry(sound.replace('[2]', '[9007199254740991,9]')), two),
      'where its shape needs',
    ],
    ['offsets beyond the end', fileOf(entry(sound), Uint8Array.of(1)), 'outside the file'],
    ['offsets that run backwards', fileOf(entry(sound.replace('0,2', '2,0')), two), 'outside the file'],
    ['bytes that nobody owns', fileOf(entry(sound), Uint8Array.of(1, 2, 3)), 'belong to no tensor'],
    ['an overlap', fileOf(`{"w":{${sound}},"v":{${sound.replace('0,2', '1,3')}}}`, Uint8Array.of(1, 2, 3)), 'overlaps'],
    ['a gap', fileOf(entry(sound.replace('0,2', '1,3')), Uint8Array.of(1, 2, 3)), 'gap'],
    ['two equal names', fileOf(`{"w":{${sound}},"\\u0077":{${sound}}}`, two), 'same name'],
    ['metadata that is no text', fileOf('{"__metadata__":{"a":1}}'), 'not text'],
    ['an unknown field', fileOf(entry(`${sound},"x":1`), two), "unknown field 'x'"],
  ])('%s', (_, file, words) => {
    const read = (): unknown => readSafetensors(file);
    expect(read).toThrow(CodecError);
    expect(read).toThrow(words);
  });

  test('random damage is refused or read, never anything else', () => {
    const file = writeSafetensors(new Map([['w', { dtype: 'F32', shape: [2, 2], bytes: new Uint8Array(16) }]]));
    fc.assert(
      fc.property(fc.nat(file.length - 1), fc.nat(255), (position, byte) => {
        const damaged = file.slice();
        damaged[position] = byte;
        try {
          readSafetensors(damaged);
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError);
        }
      }),
      { numRuns: 500 },
    );
  });
});
