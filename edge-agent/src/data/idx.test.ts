import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DataError } from './dataset.ts';
import { parseIdx, readIdx } from './idx.ts';

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'cw-idx-'));

/** An IDX file by its format: two zero bytes, the type, the rank, the dimensions big-endian, the values. */
function idx(dims: readonly number[], values: readonly number[], type = 0x08): Buffer {
  const header = Buffer.alloc(4 + 4 * dims.length);
  header.set([0, 0, type, dims.length]);
  dims.forEach((dim, i) => header.writeUInt32BE(dim, 4 + 4 * i));
  return Buffer.concat([header, Buffer.from(values)]);
}

const images = idx([3, 1, 2], [0, 255, 51, 102, 153, 204]);
const labels = idx([3], [2, 0, 1]);
const IMAGES = 'train-images-idx3-ubyte';
const LABELS = 'train-labels-idx1-ubyte';

async function setOf(files: Record<string, Uint8Array>): Promise<string> {
  const path = await folder();
  for (const [name, bytes] of Object.entries(files)) await writeFile(join(path, name), bytes);
  return path;
}

test('the bytes that the format names are read: pixels in [0, 1], the shape of one image, the labels', async () => {
  // 00 00: always; 08: unsigned bytes; 03: three dimensions; 3, 1, 2.
  expect(images.subarray(0, 16).toString('hex')).toBe('00000803000000030000000100000002');
  const read = async (files: Record<string, Uint8Array>, split: 'train' | 'test'): Promise<unknown> => {
    const { columns, examples } = await readIdx(await setOf(files), split);
    return { examples, columns: columns.map((column) => ({ ...column, values: [...column.values] })) };
  };
  const expected = {
    examples: 3,
    columns: [
      { name: 'image', values: [0, 255, 51, 102, 153, 204], shape: [1, 2], scale: 1 / 255 },
      { name: 'label', values: [2, 0, 1], shape: [] },
    ],
  };
  expect(await read({ [IMAGES]: images, [LABELS]: labels }, 'train')).toEqual(expected);
  const packed = { [`${IMAGES}.gz`]: gzipSync(images), [`${LABELS}.gz`]: gzipSync(labels) };
  expect(await read(packed, 'train')).toEqual(expected);
  const held = { 't10k-images-idx3-ubyte': images, 't10k-labels-idx1-ubyte': labels };
  expect(await read(held, 'test')).toEqual(expected);
});

test('any dimensions and values are read back as they were written', () => {
  const file = fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 4 }).chain((dims) => {
    const size = dims.reduce((product, dim) => product * dim, 1);
    return fc.tuple(fc.constant(dims), fc.array(fc.nat(255), { minLength: size, maxLength: size }));
  });
  fc.assert(
    fc.property(file, ([dims, values]) => {
      const parsed = parseIdx(idx(dims, values), 'file');
      expect({ ...parsed, values: [...parsed.values] }).toEqual({ dims, values });
    }),
  );
});

test('a file cut or lengthened anywhere is refused by its name', () => {
  fc.assert(
    fc.property(fc.nat(images.length - 1), (length) => {
      expect(() => parseIdx(images.subarray(0, length), '/data/images')).toThrow(DataError);
      expect(() => parseIdx(images.subarray(0, length), '/data/images')).toThrow(/^\/data\/images /);
    }),
  );
  expect(() => parseIdx(images.subarray(0, 10), 'f')).toThrow('f is cut off within its header: fetch it again');
  expect(() => parseIdx(images.subarray(0, -1), 'f')).toThrow('5 values where its header says 3x1x2: fetch it again');
  expect(() => parseIdx(Buffer.concat([images, Buffer.of(0)]), 'f')).toThrow('7 values where its header says 3x1x2');
});

test('another magic, another type and no dimensions are refused', () => {
  const float = idx([3], [1, 2, 3], 0x0d);
  for (const bytes of [Buffer.from('PK\x03\x04 a zip'), gzipSync(images), float]) {
    expect(() => parseIdx(bytes, 'f')).toThrow('f is not an IDX file of unsigned bytes');
  }
  expect(() => parseIdx(idx([], []), 'f')).toThrow(DataError);
});

test('dimensions that no file could fill are refused before anything is made of them', () => {
  const huge = idx([2 ** 32 - 1, 2 ** 32 - 1, 2 ** 32 - 1], []);
  expect(() => parseIdx(huge, 'f')).toThrow(/f has 0 values where its header says 4294967295x/);
});

test('what a folder lacks is named with the mend', async () => {
  const empty = await folder();
  await expect(readIdx(empty, 'train')).rejects.toThrow(
    `${empty} has no ${IMAGES} (nor ${IMAGES}.gz): give the folder of an IDX set such as MNIST's`,
  );
  const half = await setOf({ [IMAGES]: images });
  await expect(readIdx(half, 'train')).rejects.toThrow(`${half} has no ${LABELS}`);
  const torn = await setOf({ [`${IMAGES}.gz`]: gzipSync(images).subarray(0, 20), [LABELS]: labels });
  await expect(readIdx(torn, 'train')).rejects.toThrow(/images-idx3-ubyte\.gz cannot be unpacked .*: fetch it again/);
  const others = await setOf({ [IMAGES]: images, [LABELS]: idx([2], [0, 1]) });
  await expect(readIdx(others, 'train')).rejects.toThrow(
    '3 images but 2 labels in train: the files do not belong together',
  );
});

test('a set without an example is refused', async () => {
  const none = await setOf({ [IMAGES]: idx([0, 28, 28], []), [LABELS]: idx([0], []) });
  await expect(readIdx(none, 'train')).rejects.toThrow(`${none} has no examples`);
});

test('a folder in the place of a file is refused by its name', async () => {
  const path = await setOf({ [LABELS]: labels });
  await mkdir(join(path, IMAGES));
  await expect(readIdx(path, 'train')).rejects.toThrow(DataError);
});
