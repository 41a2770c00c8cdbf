import { readFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { DataError, type Dataset } from './dataset.ts';

/** Bytes of one unpacked IDX file. */
const FILE_BYTES_MAX = 2 ** 31 - 1;
const UNSIGNED_BYTE = 0x08;

/** An IDX set as MNIST and Fashion-MNIST come: images and labels of `train` or `t10k`, plain or gzip; as floats pixels are in [0, 1]. */
export async function readIdx(folder: string, split: 'train' | 'test'): Promise<Omit<Dataset, 'label'>> {
  const prefix = split === 'train' ? 'train' : 't10k';
  const images = await readFileOf(folder, `${prefix}-images-idx3-ubyte`);
  const labels = await readFileOf(folder, `${prefix}-labels-idx1-ubyte`);
  const [examples = 0, ...inputShape] = images.dims;
  if (labels.dims.length !== 1 || labels.dims[0] !== examples) {
    throw new DataError(
      `${folder}: ${examples} images but ${labels.dims.join('x')} labels in ${prefix}: the files do not belong together`,
    );
  }
  if (examples === 0) throw new DataError(`${folder} has no examples in ${prefix}: give a set that is not empty`);
  const columns = [
    { name: 'image', values: images.values, shape: inputShape, scale: 1 / 255 },
    { name: 'label', values: labels.values, shape: [] },
  ];
  return { source: folder, examples, columns };
}

interface IdxFile {
  dims: number[];
  values: Uint8Array;
}

async function readFileOf(folder: string, name: string): Promise<IdxFile> {
  const path = [join(folder, name), join(folder, `${name}.gz`)].find(existsSync);
  if (path === undefined)
    throw new DataError(`${folder} has no ${name} (nor ${name}.gz): give the folder of an IDX set such as MNIST's`);
  return parseIdx(await unpacked(path), path);
}

async function unpacked(path: string): Promise<Uint8Array> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new DataError(`cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  if (!path.endsWith('.gz')) return bytes;
  try {
    return gunzipSync(bytes, { maxOutputLength: FILE_BYTES_MAX });
  } catch (cause) {
    throw new DataError(`${path} cannot be unpacked (${(cause as Error).message}): fetch it again`, { cause });
  }
}

/** Parses an IDX file of unsigned bytes: magic 0 0 8 rank, the dimensions as 32-bit big-endian numbers, the values. */
export function parseIdx(bytes: Uint8Array, path: string): IdxFile {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 4 || view.getUint16(0) !== 0 || view.getUint8(2) !== UNSIGNED_BYTE) {
    throw new DataError(`${path} is not an IDX file of unsigned bytes: it begins with other bytes than 00 00 08`);
  }
  const rank = view.getUint8(3);
  const start = 4 + 4 * rank;
  if (rank === 0 || bytes.length < start) throw new DataError(`${path} is cut off within its header: fetch it again`);
  const dims = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i));
  const size = dims.reduce((product, dim) => product * dim, 1);
  if (bytes.length !== start + size) {
    throw new DataError(
      `${path} has ${bytes.length - start} values where its header says ${dims.join('x')}: fetch it again`,
    );
  }
  return { dims, values: bytes.subarray(start) };
}
