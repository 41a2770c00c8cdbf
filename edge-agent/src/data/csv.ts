import { readFile } from 'node:fs/promises';
import { DataError, type Dataset } from './dataset.ts';

/** Bytes of a CSV file. */
const FILE_BYTES_MAX = 512 * 1024 * 1024;

/** A CSV file with a header: one column of class labels (whole numbers from 0), all others are numbers. */
export async function readCsv(path: string, labelColumn: string): Promise<Dataset> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new DataError(`cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  if (bytes.length > FILE_BYTES_MAX)
    throw new DataError(`${path} has ${bytes.length} bytes; up to ${FILE_BYTES_MAX} are read`);
  return parseCsv(bytes.toString('utf8'), path, labelColumn);
}

/** Names of the columns beside the label's, in the order of an example's values. */
export async function readColumns(path: string, labelColumn: string): Promise<string[]> {
  const [first] = rowsOf(await readFile(path, 'utf8'));
  return first === undefined ? [] : cellsOf(first, path).filter((name) => name !== labelColumn);
}

/** Class labels are held as 32-bit whole numbers. */
const LABEL_MAX = 2 ** 31 - 1;

/** Lines are rows: a quoted cell may hold commas and doubled quotes, and no line break. */
export function parseCsv(text: string, path: string, labelColumn: string): Dataset {
  const [first, ...others] = rowsOf(text);
  const header = first === undefined ? [] : cellsOf(first, path);
  const labelAt = header.indexOf(labelColumn);
  if (labelAt < 0) {
    throw new DataError(
      `${path} has no column "${labelColumn}" but ${header.join(', ')}: name the label's with &label=COLUMN`,
    );
  }
  const examples = others.length;
  const width = header.length - 1;
  if (examples === 0) throw new DataError(`${path} has a header and no rows`);
  if (width === 0) throw new DataError(`${path} has no column beside the label: there is nothing to learn from`);
  const inputs = new Float32Array(examples * width);
  const labels = new Int32Array(examples);
  others.forEach((row, at) => {
    const cells = cellsOf(row, path);
    if (cells.length !== header.length) {
      throw new DataError(`${path} line ${row.line} has ${cells.length} cells, the header ${header.length}`);
    }
    let column = at * width;
    for (const [i, cell] of cells.entries()) {
      const value = cell === '' ? NaN : Number(cell);
      if (!Number.isFinite(Math.fround(value)))
        throw new DataError(`${path} line ${row.line}, column "${header[i]}": "${cell}" is not a number`);
      if (i !== labelAt) inputs[column++] = value;
      else if (Number.isInteger(value) && value >= 0 && value <= LABEL_MAX) labels[at] = value;
      else throw new DataError(`${path} line ${row.line}: the label ${cell} is not a whole number from 0`);
    }
  });
  const classes = labels.reduce((max, label) => Math.max(max, label), 0) + 1;
  return { inputs, inputShape: [width], labels, classes, examples };
}

interface Row {
  text: string;
  /** In the file, from 1; empty lines count. */
  line: number;
}

/** Lines that are not empty, without the byte order mark that spreadsheets put in front. */
function rowsOf(text: string): Row[] {
  return text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .map((line, i) => ({ text: line, line: i + 1 }))
    .filter((row) => row.text.trim() !== '');
}

/** A cell in quotes, in which a quote is doubled, or one without any; then a comma or the end. */
const CELL = /\s*(?:"((?:[^"]|"")*)"|([^",]*?))\s*(?:,|$)/y;

function cellsOf({ text, line }: Row, path: string): string[] {
  // Most files have no quotes at all, and large ones should not wait for an expression.
  if (!text.includes('"')) return text.split(',').map((cell) => cell.trim());
  const cells: string[] = [];
  for (let at = 0; at <= text.length;) {
    CELL.lastIndex = at;
    const [whole, quoted, plain = ''] = CELL.exec(text) ?? [];
    if (whole === undefined) throw new DataError(`${path} line ${line}: a quote is not closed or stands within a cell`);
    cells.push(quoted?.replaceAll('""', '"') ?? plain);
    at += whole.length;
    if (!whole.endsWith(',')) break;
  }
  return cells;
}
