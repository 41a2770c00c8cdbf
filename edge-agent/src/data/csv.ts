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

export function parseCsv(text: string, path: string, labelColumn: string): Dataset {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  const header = (lines[0] ?? '').split(',').map((name) => name.trim().replace(/^"|"$/g, ''));
  const labelAt = header.indexOf(labelColumn);
  if (labelAt < 0) {
    throw new DataError(
      `${path} has no column "${labelColumn}" but ${header.join(', ')}: name the label's with &label=COLUMN`,
    );
  }
  const examples = lines.length - 1;
  if (examples === 0) throw new DataError(`${path} has a header and no rows`);
  const width = header.length - 1;
  const inputs = new Float32Array(examples * width);
  const labels = new Int32Array(examples);
  for (let row = 0; row < examples; row++) {
    const cells = (lines[row + 1] ?? '').split(',');
    if (cells.length !== header.length) {
      throw new DataError(`${path} line ${row + 2} has ${cells.length} cells, the header ${header.length}`);
    }
    let column = 0;
    for (const [i, cell] of cells.entries()) {
      const value = cell.trim() === '' ? NaN : Number(cell);
      if (!Number.isFinite(value))
        throw new DataError(`${path} line ${row + 2}, column "${header[i]}": "${cell}" is not a number`);
      if (i !== labelAt) inputs[row * width + column++] = value;
      else if (Number.isInteger(value) && value >= 0) labels[row] = value;
      else throw new DataError(`${path} line ${row + 2}: the label ${cell} is not a whole number from 0`);
    }
  }
  const classes = labels.reduce((max, label) => Math.max(max, label), 0) + 1;
  return { inputs, inputShape: [width], labels, classes, examples };
}
