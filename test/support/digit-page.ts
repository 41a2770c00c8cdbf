import { seeded } from '@commonweight/core';
import type { Dataset } from '@commonweight/edge-agent';
import { examplesOf } from './digit-models.ts';

const SIDE = 28;

export interface PageOptions {
  /** All in pixels; a digit is a square. */
  height: number;
  width: number;
  digit: number;
  /** Which digits it shows. */
  seed: number;
}

/** A page of handwritten digits in lines with a gap between words: `[height, width]`, brightness from 0 (ink) to 1 (paper). */
export function digitPage(digits: Dataset, { height, width, digit, seed }: PageOptions): Float32Array {
  const random = seeded(seed);
  const page = new Float32Array(height * width).fill(1);
  const margin = Math.min(digit / 2, Math.floor((height - digit) / 2));
  for (let top = margin; top + digit <= height; top += 1.5 * digit) {
    for (let left = margin, at = 0; left + digit <= width; left += 0.75 * digit, at++) {
      // Words of one to seven digits.
      if (at > 0 && random.uniform() < 0.2) continue;
      const { inputs } = examplesOf(digits, random.integer(digits.examples), 1);
      draw(page, width, inputs, { top: Math.round(top), left: Math.round(left), size: digit });
    }
  }
  return page;
}

/** Ink over what is there, with bilinear interpolation. */
function draw(
  page: Float32Array,
  width: number,
  ink: Float32Array,
  { top, left, size }: { top: number; left: number; size: number },
): void {
  const scale = (SIDE - 1) / (size - 1);
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const at = (top + row) * width + left + column;
      page[at] = Math.min(page[at]!, 1 - sampled(ink, row * scale, column * scale));
    }
  }
}

function sampled(ink: Float32Array, y: number, x: number): number {
  const [top, left] = [Math.min(Math.floor(y), SIDE - 2), Math.min(Math.floor(x), SIDE - 2)];
  const [down, right] = [y - top, x - left];
  const at = (row: number, column: number): number => ink[row * SIDE + column]!;
  const upper = at(top, left) * (1 - right) + at(top, left + 1) * right;
  const lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right;
  return upper * (1 - down) + lower * down;
}
