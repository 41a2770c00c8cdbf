/** Whether a version may be run on several requests at once, found by trying: a graph can mix rows in many ways. */
import { madeUpInputs, type Contract, type Tensor } from '@commonweight/client-sdk';
import { joinRows, splitRows } from './rows.ts';
import type { Answer } from './batcher.ts';

/** Largest difference of a row that ran with others, as a share of its largest value: kernels round by how many rows there are. */
const DIFFERENCE_MAX = 1e-4;
/** Rows of very different size: whoever shares a scale or a mean among rows gets the small ones wrong. */
const MAGNITUDES = [1, 30, 0.03];

export type Independence = { isBatchable: true } | { isBatchable: false; why: string };

/** Why these shapes leave no room for a batch; undefined where they do. */
export function fixedShape({ inputs, outputs }: Contract): string | undefined {
  const fixed = [...inputs, ...outputs].find(({ dims }) => dims.length === 0 || dims[0]! >= 0);
  return fixed && `the first dimension of '${fixed.name}' is not open`;
}

/** Runs made-up rows alone and together and compares. */
export async function rowIndependence(
  contract: Contract,
  predict: (inputs: Record<string, Tensor>) => Promise<Answer>,
): Promise<Independence> {
  const fixed = fixedShape(contract);
  if (fixed !== undefined) return { isBatchable: false, why: fixed };
  const rows = MAGNITUDES.map((magnitude) => madeUpRow(contract, magnitude));
  try {
    const together = splitRows(
      (await predict(joinRows(rows))).outputs,
      rows.map(() => 1),
    );
    if (together === undefined) return { isBatchable: false, why: 'an output has not one row for each that goes in' };
    for (const [index, row] of rows.entries()) {
      const alone = (await predict(row)).outputs;
      const mixed = Object.keys(alone).find((name) => !isClose(alone[name]!, together[index]?.[name]));
      if (mixed !== undefined) {
        return { isBatchable: false, why: `a row of '${mixed}' depends on which others run with it` };
      }
    }
    return { isBatchable: true };
  } catch (error) {
    return { isBatchable: false, why: `three made-up rows could not be run: ${(error as Error).message}` };
  }
}

function madeUpRow({ inputs }: Contract, magnitude: number): Record<string, Tensor> {
  const row = madeUpInputs(inputs, { rows: 1, seed: `row of ${magnitude}` });
  return Object.fromEntries(
    Object.entries(row).map(([name, { data, dims }]): [string, Tensor] => [
      name,
      {
        data:
          data instanceof Float32Array || data instanceof Float64Array ? data.map((value) => value * magnitude) : data,
        dims,
      },
    ]),
  );
}

function isClose(left: Tensor, right: Tensor | undefined): boolean {
  if (right === undefined || left.data.length !== right.data.length) return false;
  if (Array.isArray(left.data)) return left.data.every((text, index) => text === right.data[index]);
  const [a, b] = [left.data, right.data].map((data) => Array.from(data as ArrayLike<number>, Number)) as [
    number[],
    number[],
  ];
  const largest = a.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return a.every((value, index) => Math.abs(value - b[index]!) <= DIFFERENCE_MAX * largest);
}
