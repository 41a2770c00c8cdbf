import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { decodeUpdate, encodings, seeded, stepped, valueEncodings, type EncodingName, type ValueEncodingName } from '@commonweight/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { grid, inputs, ROTATION_SEED, sparseInputs } from './inputs.ts';
import { samples } from './messages.ts';
import { files, type Vectors } from './vectors.ts';

/** What somebody reads whose change has moved a byte. */
const promise = (file: string): string =>
  `the bytes are not those of test/golden/${file}. Formats are promises: agents, apps and data folders that are out there ` +
  'read and write these bytes. If nobody asked for another format, this is a bug. If the change is meant, give the new ' +
  'format a new name or number beside the old one; only before a release write the file anew, with ' +
  '`node --conditions=@commonweight/source test/golden/make.ts`, and say so in the commit';

const stored = (file: string): Vectors => JSON.parse(readFileSync(join(import.meta.dirname, file), 'utf8')) as Vectors;

describe.each(Object.keys(files))('%s', (file) => {
  const [was, is] = [stored(file), files[file]!()];

  test('has every vector and no other', () => {
    expect(Object.keys(is), promise(file)).toEqual(Object.keys(was));
  });

  test.each(Object.keys(was))('%s', (name) => {
    expect(is[name], promise(file)).toBe(was[name]);
  });
});

test('every golden file is compared', () => {
  const there = readdirSync(import.meta.dirname).filter((name) => name.endsWith('.json'));
  expect(there.sort()).toEqual(Object.keys(files).sort());
});

test('a byte that moves is explained: formats are promises, and how to write them anew', () => {
  expect(() => expect('00', promise('wire.json')).toBe('01')).toThrow(/test\/golden\/wire\.json.*promises.*golden\/make\.ts/);
});

test('the public key is that of RFC 8032 for its secret', () => {
  expect(stored('signed.json')['public key']).toBe('d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a');
});

test('the bytes of each message are read as what was written', () => {
  const was = stored('wire.json');
  for (const { name, schema, message } of samples()) {
    expect(fromBinary(schema, new Uint8Array(Buffer.from(was[name] ?? '', 'hex'))), name).toEqual(message);
  }
});

/**
 * MXINT8 by the letter of the OCP Microscaling Formats specification 1.0, section 5.3 and 5.4.1: a block's scale is
 * 2^(byte − 127), 255 being NaN; an element is two's complement with one integer bit and six fraction bits. MXINT4 has two fraction bits,
 * and two elements a byte, the first in the lower half.
 */
function plainMxint(width: 8 | 4, payload: Uint8Array, length: number): Float32Array {
  const blocks = Math.ceil(length / 32);
  return Float32Array.from({ length }, (_, i) => {
    const scale = payload[Math.floor(i / 32)]!;
    const bits = width === 8 ? payload[blocks + i]! : payload[blocks + Math.floor(i / 2)]! >> (i % 2 === 0 ? 0 : 4);
    const fraction = width - 2;
    let element = bits & (1 << (width - 1)) ? -2 : 0;
    for (let bit = fraction; bit >= 0; bit--) if (bits & (1 << bit)) element += 2 ** (bit - fraction);
    return scale === 255 ? Number.NaN : element * 2 ** (scale - 127);
  });
}

const widths = [
  ['mxint8', 8],
  ['mxint4', 4],
] as const;

test.each(widths)('any bytes of %s mean what the OCP specification says', (name, width) => {
  const { byteLength, decode } = valueEncodings[name];
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 100 }), fc.uint8Array({ minLength: 104, maxLength: 104 }), (length, bytes) => {
      const payload = bytes.subarray(0, byteLength(length));
      expect(decode(payload, length, grid)).toEqual(plainMxint(width, payload, length));
    }),
  );
});

test('every scale and every element of MXINT8 mean what the OCP specification says', () => {
  for (let scale = 0; scale < 256; scale++) {
    const payload = Uint8Array.from([...Array<number>(8).fill(scale), ...Array(256).keys()]);
    expect(encodings.mxint8.decode(payload, 256, grid)).toEqual(plainMxint(8, payload, 256));
  }
});

test.each<EncodingName>(['float32', 'mxint8', 'mxint4'])('the golden payloads of %s mean their inputs', (encoding) => {
  for (const [name, hex] of Object.entries(stored(`${encoding}.json`))) {
    const values = inputs[name]!;
    const payload = new Uint8Array(Buffer.from(hex, 'hex'));
    const floats = () => Float32Array.from({ length: values.length }, (_, i) => Buffer.from(payload).readFloatLE(4 * i));
    const width = encoding === 'mxint8' ? 8 : 4;
    const meant = encoding === 'float32' ? floats() : plainMxint(width, payload, values.length);
    expect(encodings[encoding].decode(payload, values.length, grid)).toEqual(meant);
    for (const [i, value] of values.entries()) {
      const clipped = Math.max(-8, Math.min(8, value));
      const block = values.subarray(i - (i % 32), i - (i % 32) + 32).map((v) => Math.min(8, Math.abs(v)));
      const largest = block.reduce((most, v) => Math.max(most, v), 0);
      const step = Math.max(2 ** (grid.lsbExponent + (width === 4 ? 4 : 0)), encoding === 'float32' ? 0 : largest / (width === 8 ? 32 : 2));
      if (Number.isNaN(value)) expect(meant[i], name).toBeNaN();
      else expect(Math.abs(meant[i]! - clipped), `${name} ${i}`).toBeLessThanOrEqual(step);
    }
  }
});

/** A payload of the largest values by the letter of core/src/weights/top-k.ts, told here once more. */
function plainSparse(values: ValueEncodingName, payload: Buffer, length: number): Float32Array {
  const blocks = Math.ceil(length / 8192);
  const entries = Array.from({ length: blocks }, (_, block) => ({
    count: payload.readUInt16LE(4 * block),
    bytes: payload.readUInt16LE(4 * block + 2),
  }));
  const sizes = { float32: [0, 4], mxint8: [1, 1], mxint4: [1, 0.5] } as const;
  const [perBlock, perValue] = sizes[values];
  const exponentBytes = (count: number): number => perBlock * Math.ceil(count / 32);
  const total = (of: (entry: (typeof entries)[number]) => number, until = blocks): number =>
    entries.slice(0, until).reduce((sum, entry) => sum + of(entry), 0);
  const exponentsAt = 4 * blocks + total(({ bytes }) => bytes);
  const elementsAt = exponentsAt + total(({ count }) => exponentBytes(count));
  const decoded = new Float32Array(length);
  for (const [block, { count, bytes }] of entries.entries()) {
    const own = Math.min(8192, length - 8192 * block);
    const at = 4 * blocks + total((entry) => entry.bytes, block);
    const positions: number[] = [];
    if (bytes === Math.ceil(own / 8)) {
      for (let i = 0; i < 8 * bytes; i++) if (payload[at + (i >> 3)]! & (1 << (i & 7))) positions.push(i);
    } else {
      let next = 0;
      for (const gap of payload.subarray(at, at + bytes)) {
        next += gap;
        if (gap < 255) positions.push(next++);
      }
    }
    expect(positions.length).toBe(count);
    const start = exponentsAt + total((entry) => exponentBytes(entry.count), block);
    const first = elementsAt + total((entry) => Math.ceil(perValue * entry.count), block);
    const exponents = payload.subarray(start, start + exponentBytes(count));
    const elements = payload.subarray(first, first + Math.ceil(perValue * count));
    const alone = Buffer.concat([exponents, elements]);
    const sent =
      values === 'float32'
        ? Float32Array.from({ length: count }, (_, i) => alone.readFloatLE(4 * i))
        : plainMxint(values === 'mxint8' ? 8 : 4, alone, count);
    for (const [i, position] of positions.entries()) decoded[8192 * block + position] = sent[i]!;
  }
  return decoded;
}

test.each(Object.keys(valueEncodings) as ValueEncodingName[])(
  'the golden payloads of the largest values in %s mean what their format says',
  (values) => {
    for (const [name, hex] of Object.entries(stored(`topk-${values}.json`))) {
      const { length } = sparseInputs[name]!;
      const payload = Buffer.from(hex, 'hex');
      const decoded = encodings[`topk-${values}`].decode(new Uint8Array(payload), length, grid);
      expect(Buffer.compare(Buffer.from(decoded.buffer), Buffer.from(plainSparse(values, payload, length).buffer)), name).toBe(0);
    }
  },
);

test.each(['mxint8', 'mxint4'] as const)('the golden payloads of turned %s mean their inputs', (encoding) => {
  const format = { encoding, topK: 1, rotationSeed: ROTATION_SEED };
  for (const [name, hex] of Object.entries(stored(`rotated-${encoding}.json`))) {
    if (name === 'the mean of two') continue;
    const values = inputs[name]!;
    const decoded = decodeUpdate(new Uint8Array(Buffer.from(hex, 'hex')), format, values.length, grid);
    // By the definition: y = H·D·x with the signs of the seed, in blocks of a power of two; H has the parity of common bits.
    const turned = decodeMatrix(values, encoding, Buffer.from(hex, 'hex'));
    for (const [i, value] of decoded.entries()) expect(value).toBeCloseTo(turned[i]!, 5);
    const step = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / (encoding === 'mxint8' ? 8 : 0.5);
    for (const [i, value] of values.entries()) expect(Math.abs(decoded[i]! - value)).toBeLessThanOrEqual(step);
  }
});

/** The inverse as a matrix, element by element, for vectors of at most one block. */
function decodeMatrix(values: Float32Array, encoding: 'mxint8' | 'mxint4', payload: Buffer): Float32Array {
  const size = values.length === 0 ? 0 : Math.max(32, 2 ** Math.ceil(Math.log2(values.length)));
  const sent = plainMxint(encoding === 'mxint8' ? 8 : 4, payload, size);
  const random = seeded(ROTATION_SEED).fork('rotation');
  const bits = Array.from({ length: Math.ceil(size / 32) }, () => random.bits());
  const scale = 2 ** -Math.floor(Math.log2(Math.max(1, size)) / 2);
  return Float32Array.from(values, (_, i) => {
    let sum = 0;
    for (let j = 0; j < size; j++) {
      const common = (i & j).toString(2).replaceAll('0', '').length;
      sum += common % 2 === 0 ? sent[j]! : -sent[j]!;
    }
    const isNegative = (bits[i >> 5]! >>> (31 - (i & 31))) & 1;
    return sum * scale * (isNegative === 1 ? -1 : 1);
  });
}

test('the golden deltas lead from their base to their version', () => {
  const was = stored('step.json');
  const base = inputs['three blocks, the last one cut']!;
  for (const downlink of ['mxint8', 'mxint4']) {
    const delta = new Uint8Array(Buffer.from(was[`its delta in ${downlink}`]!, 'hex'));
    const version = Buffer.from(stepped(base, delta).buffer).toString('hex');
    expect(version).toBe(was[`a version in ${downlink}`]);
  }
  const large = new Uint8Array(Buffer.from(was['numbers of every size']!, 'hex'));
  const steps = [0, 1, -1, 95, -96, 96, 200, -1000, 2 ** 20, -(2 ** 29), 2 ** 30 - 1];
  expect([...stepped(new Float32Array(steps.length), large)]).toEqual(steps.map((step) => Math.fround(step * 2 ** -12)));
});
