import type { Tensor } from './tensor.ts';
import type { AccuracyBeside } from './variant.ts';

/** How far outputs are from those that they are compared with. */
export interface Deviation {
  /** Largest difference as a share of the largest value of the output. */
  difference: number;
  /** Share of rows whose largest value stays in its place. */
  agreement: number;
  /** Where labels are known. */
  accuracy?: AccuracyBeside;
}

/** Compares float outputs, runs after runs. */
export class Deviations {
  readonly #largest = new Map<string, number>();
  readonly #furthest = new Map<string, number>();
  /** Rows of more than one value, and those whose largest value stays in its place. */
  rows = 0;
  agreeing = 0;

  add(before: Record<string, Tensor>, after: Record<string, Tensor>): void {
    for (const [name, { data: left, dims }] of Object.entries(before)) {
      const right = after[name]?.data;
      if (!(left instanceof Float32Array) || !(right instanceof Float32Array) || right.length !== left.length) continue;
      const [largest, furthest] = [this.#largest.get(name) ?? 0, this.#furthest.get(name) ?? 0];
      this.#largest.set(
        name,
        left.reduce((most, value) => Math.max(most, Math.abs(value)), largest),
      );
      this.#furthest.set(
        name,
        left.reduce((most, value, index) => worse(most, Math.abs(value - right[index]!)), furthest),
      );
      this.#addRows(left, right, dims.at(-1) ?? 1);
    }
  }

  get difference(): number {
    const shares = [...this.#furthest].map(([name, furthest]) =>
      furthest === 0 ? 0 : furthest / this.#largest.get(name)!,
    );
    return shares.reduce(worse, 0);
  }

  #addRows(left: Float32Array, right: Float32Array, width: number): void {
    if (width < 2) return;
    for (let start = 0; start < left.length; start += width) {
      this.rows += 1;
      if (placeOfLargest(left, start, width) === placeOfLargest(right, start, width)) this.agreeing += 1;
    }
  }
}

export function placeOfLargest(values: ArrayLike<number>, start: number, width: number): number {
  let place = 0;
  for (let i = 1; i < width; i++) if (values[start + i]! > values[start + place]!) place = i;
  return place;
}

/** Whether the first output of floats says the class: its largest value, or, of one value, whether it is above zero. */
export function isRight(outputs: Record<string, Tensor>, label: number): boolean {
  const values = Object.values(outputs).find(({ data }) => data instanceof Float32Array)?.data as
    Float32Array | undefined;
  if (values === undefined) return false;
  return (values.length === 1 ? Number(values[0]! > 0) : placeOfLargest(values, 0, values.length)) === label;
}

/** The larger of two; no number is worse than any. */
const worse = (a: number, b: number): number => (Number.isNaN(a) || Number.isNaN(b) ? Number.NaN : Math.max(a, b));
