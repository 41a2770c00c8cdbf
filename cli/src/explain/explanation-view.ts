import type { ExplainedRow, Explanation } from '@commonweight/client-sdk';
import { table } from '../output/format.ts';

/** What is known of an explained example besides. */
export interface ExplainedExample {
  /** What the values are called, where that is known. */
  columns?: readonly string[] | undefined;
  /** What the example was compared with, in words. */
  baseline: string;
  /** Lines of the table. */
  top: number;
}

/** An explanation of one example in words: the answer, a map where the input is an image, and the values that count most. */
export function explanationText(explanation: Explanation, example: ExplainedExample): string {
  const { output, method, steps, rows, attributions, inputs } = explanation;
  const [row] = rows;
  if (row === undefined) return '';
  const parts = Object.entries(attributions).flatMap(([name, { data, dims }]) => {
    const shares = Array.from(data as ArrayLike<number | bigint>, Number);
    const image = imageOf(dims, shares);
    return [
      ...(image === undefined ? [] : [heatMap(image)]),
      `${name}: the ${Math.min(example.top, shares.length)} of ${shares.length} values that count most`,
      reasons(
        shares,
        image === undefined ? dims.slice(1) : sizesOf(dims, image),
        example,
        (inputs[name]?.data ?? []) as ArrayLike<number | bigint>,
      ),
    ];
  });
  return [summary(output, row, `${method}${steps > 1 ? `, ${steps} steps` : ''}`, example.baseline), ...parts].join(
    '\n',
  );
}

function summary(
  output: string,
  { index, value, baselineValue, gap }: ExplainedRow,
  how: string,
  baseline: string,
): string {
  return `${output} ${index} is ${value.toPrecision(4)}, and ${baselineValue.toPrecision(4)} for ${baseline}; by ${how}, which miss the difference by ${gap.toExponential(1)}`;
}

function reasons(
  shares: readonly number[],
  sizes: readonly number[],
  { columns, top }: ExplainedExample,
  values: ArrayLike<number | bigint>,
): string {
  const places = shares.map((_, place) => place).toSorted((a, b) => Math.abs(shares[b]!) - Math.abs(shares[a]!));
  const rows = places
    .slice(0, top)
    .map((place) => [
      columns?.[place] ?? placeName(place, sizes),
      short(Number(values[place])),
      signed(shares[place]!),
    ]);
  return table(['value', 'is', 'adds'], rows);
}

/** Where a value stands in one example: its number, or its row and column. */
function placeName(place: number, sizes: readonly number[]): string {
  if (sizes.length < 2) return String(place);
  const spots = sizes.map((size, axis) => {
    const inner = sizes.slice(axis + 1).reduce((product, each) => product * each, 1);
    return Math.floor(place / inner) % size;
  });
  return spots.join(',');
}

/** Of an example that came flat, those of the image that it is. */
const sizesOf = (dims: readonly number[], { height, width }: Image): readonly number[] =>
  dims.length >= 3 ? dims.slice(1) : [height, width];

interface Image {
  height: number;
  width: number;
  shares: readonly number[];
}

const SIDE_MIN = 8;
const SIDE_MAX = 64;

/** The last two axes where they look like those of an image, channels added up; a flat square as well. */
function imageOf(dims: readonly number[], shares: readonly number[]): Image | undefined {
  const side = Math.sqrt(shares.length);
  const [height = 0, width = 0] = dims.length >= 3 ? dims.slice(-2) : Number.isInteger(side) ? [side, side] : [];
  if (Math.min(height, width) < SIDE_MIN || Math.max(height, width) > SIDE_MAX) return undefined;
  const added = Array.from({ length: height * width }, (_, place) => {
    let sum = 0;
    for (let at = place; at < shares.length; at += height * width) sum += shares[at]!;
    return sum;
  });
  return { height, width, shares: added };
}

/** Two letters a pixel, so that it is about as wide as it is high. */
function heatMap({ height, width, shares }: Image): string {
  const most = Math.max(...shares.map(Math.abs)) || 1;
  const letter = (share: number): string => {
    const strength = Math.abs(share) / most;
    if (strength < 0.05) return '. ';
    if (share > 0) return strength < 0.4 ? '+ ' : '# ';
    return strength < 0.4 ? '- ' : '= ';
  };
  const lines = Array.from({ length: height }, (_, row) =>
    shares
      .slice(row * width, (row + 1) * width)
      .map(letter)
      .join('')
      .trimEnd(),
  );
  return [...lines, '# and + raise it, = and - lower it'].join('\n');
}

const short = (value: number): string => (Number.isInteger(value) ? String(value) : value.toPrecision(4));
const signed = (share: number): string => `${share > 0 ? '+' : ''}${share.toPrecision(3)}`;

/** The same for machines. */
export const explanationRecord = (explanation: Explanation): object => ({
  method: explanation.method,
  steps: explanation.steps,
  output: explanation.output,
  explained: explanation.rows,
  attributions: Object.fromEntries(
    Object.entries(explanation.attributions).map(([name, { data, dims }]) => [name, { dims, data: [...data] }]),
  ),
});
