import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, expect, test } from 'vitest';
import { loadDataset } from './load-dataset.ts';

let folder: string;

async function paint(
  file: string,
  width: number,
  height: number,
  pixel: (x: number, y: number) => number[],
): Promise<void> {
  const pixels = Array.from({ length: width * height }, (_, at) => pixel(at % width, Math.floor(at / width))).flat();
  const channels = (pixels.length / (width * height)) as 3 | 4;
  const path = join(folder, file);
  await mkdir(dirname(path), { recursive: true });
  await sharp(Uint8Array.from(pixels), { raw: { width, height, channels } }).toFile(path);
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cw-images-'));
  await paint('even/cat/a.png', 3, 2, (x, y) => [10 * x, 20 * y, 255]);
  await paint('even/dog/b.png', 3, 2, () => [200, 100, 50]);
  await paint('even/dog/c.jpg', 3, 2, () => [200, 100, 50]);
  await paint('even/dog/clear.png', 3, 2, () => [9, 9, 9, 0]);
  await writeFile(join(folder, 'even/dog/notes.txt'), 'no image');
  await paint('odd/one/a.png', 3, 2, () => [1, 2, 3]);
  await paint('odd/one/b.png', 4, 4, () => [1, 2, 3]);
  await mkdir(join(folder, 'bad/one'), { recursive: true });
  await writeFile(join(folder, 'bad/one/a.png'), 'this is no image');
  await mkdir(join(folder, 'empty'));
});

test('a sub-folder is a class, and pixels lie channel by channel', async () => {
  const { columns, examples } = await loadDataset(`images:${join(folder, 'even')}`);
  const [image, label] = columns;
  expect(examples).toBe(4);
  expect([...label!.values]).toEqual([0, 1, 1, 1]);
  expect(image).toMatchObject({ name: 'image', shape: [3, 2, 3], scale: 1 / 255 });
  const values = [...image!.values];
  expect(values.slice(0, 18)).toEqual([0, 10, 20, 0, 10, 20, 0, 0, 0, 20, 20, 20, ...new Array<number>(6).fill(255)]);
  // A JPEG is near to what was painted, and what is clear is black.
  values.slice(36, 42).forEach((value) => expect(Math.abs((value as number) - 200)).toBeLessThan(4));
  expect(new Set(values.slice(54))).toEqual(new Set([0]));
});

test('they may be grey, of another size and laid out pixel by pixel; classes may have another order', async () => {
  const grey = await loadDataset(`images:${join(folder, 'even')}?channels=1&size=5x4&classes=dog,cat`);
  expect(grey.columns[0]).toMatchObject({ shape: [1, 4, 5] });
  expect([...grey.columns[1]!.values]).toEqual([0, 0, 0, 1]);
  const flat = await loadDataset(`images:${join(folder, 'even')}?layout=hwc`);
  expect(flat.columns[0]!.shape).toEqual([2, 3, 3]);
  expect([...flat.columns[0]!.values].slice(0, 6)).toEqual([0, 0, 255, 10, 0, 255]);
});

test.each([
  ['odd', /b\.png is 4x4 and .*a\.png 3x2: bring all to one size with &size=WxH/],
  ['bad', /a\.png cannot be unpacked/],
  ['empty', /has no sub-folders: put the images of each class into a folder/],
  ['nowhere', /cannot read .*nowhere/],
  ['even?size=3', /size=3: give WIDTHxHEIGHT/],
  ['even?classes=bird', /the folders bird of .* have no images/],
])('%s is refused by what is wrong', async (place, message) => {
  await expect(loadDataset(`images:${join(folder, place)}`)).rejects.toThrow(message);
});

test('sizes that differ are made alike', async () => {
  const { columns } = await loadDataset(`images:${join(folder, 'odd')}?size=2x2`);
  expect(columns[0]).toMatchObject({ shape: [3, 2, 2], values: { length: 24 } });
});
