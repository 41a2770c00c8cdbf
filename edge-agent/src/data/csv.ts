import { DataError, type Column, type Dataset } from './dataset.ts';
import { readText } from './read-text.ts';

/** How columns are to be read. */
export interface CsvOptions {
  /** Columns that stay as they are written, though they look like numbers: `01234`. */
  text?: readonly string[];
}

/** A CSV file with a header: a column is of numbers, of lists of numbers, or of texts. */
export async function readCsv(path: string, options: CsvOptions = {}): Promise<Omit<Dataset, 'label'>> {
  return parseCsv(await readText(path), path, options);
}

/** As RFC 4180 has it: a cell in quotes may hold commas, line breaks and doubled quotes. Spaces around a cell are no part of it. */
export function parseCsv(text: string, path: string, { text: asText = [] }: CsvOptions = {}): Omit<Dataset, 'label'> {
  const rows = new Rows(text.replace(/^\uFEFF/, ''), path);
  const header = rows.next()?.cells ?? [];
  if (header.length === 0)
    throw new DataError(`${path} is empty: give a header with the names of the columns, and rows`);
  const twice = header.find((name, at) => header.indexOf(name) !== at);
  if (twice !== undefined) throw new DataError(`${path} has two columns "${twice}": rename one`);
  const stray = asText.find((name) => !header.includes(name));
  if (stray !== undefined)
    throw new DataError(`${path} has no column "${stray}", which is to stay text: ${known(header)}`);
  const start = rows.at;
  const isText = header.map((name) => asText.includes(name));
  for (;;) {
    const found = columnsOf(rows, header, isText, path);
    if (found !== undefined) return { source: path, ...found };
    // A column that began with numbers goes on with texts: once more, now that this is known.
    rows.at = start;
  }
}

/** The columns; undefined where one turned out to be of texts, which is noted then. */
function columnsOf(
  rows: Rows,
  header: readonly string[],
  isText: boolean[],
  path: string,
): Pick<Dataset, 'columns' | 'examples' | 'lines'> | undefined {
  const columns = header.map((name, at) => (isText[at] === true ? new Texts(name) : new Numbers(name)));
  const lines: number[] = [];
  let surprises = false;
  for (let row = rows.next(); row !== undefined; row = rows.next()) {
    if (row.cells.length !== header.length) {
      throw new DataError(`${path} line ${row.line} has ${row.cells.length} cells, the header ${header.length}`);
    }
    lines.push(row.line);
    for (let at = 0; at < header.length; at++) {
      if (columns[at]!.add(row.cells[at]!)) continue;
      isText[at] = true;
      surprises = true;
    }
    if (surprises && lines.length % SURPRISES_EVERY === 0) break;
  }
  if (surprises) return undefined;
  if (lines.length === 0) throw new DataError(`${path} has a header and no rows`);
  return {
    columns: columns.map((column) => column.done()),
    examples: lines.length,
    lines: Uint32Array.from(lines),
  };
}

/** Rows after which those columns are known that are of texts all along. */
const SURPRISES_EVERY = 100;

const known = (header: readonly string[]): string => `it has ${header.join(', ')}`;

/** A cell of a number that is as good as its text; beyond 2^53 whole numbers are not. */
function numberIn(cell: string): number | undefined {
  if (cell === '') return undefined;
  const value = Number(cell);
  if (!Number.isFinite(value)) return undefined;
  return Math.abs(value) > Number.MAX_SAFE_INTEGER && /^[-+]?\d+$/.test(cell) ? undefined : value;
}

/** Cells that are numbers, or lists of them: `[3, 1, 4]`. */
class Numbers {
  readonly #name: string;
  readonly #values: number[] = [];
  #ends: number[] | undefined;

  constructor(name: string) {
    this.#name = name;
  }

  add(cell: string): boolean {
    const list = cell.startsWith('[') ? listIn(cell) : undefined;
    if (list !== undefined) {
      if (this.#ends === undefined && this.#values.length > 0) return false;
      this.#ends ??= [];
      for (const value of list) this.#values.push(value);
      this.#ends.push(this.#values.length);
      return true;
    }
    const value = numberIn(cell);
    if (value === undefined || this.#ends !== undefined) return false;
    this.#values.push(value);
    return true;
  }

  done(): Column {
    const values = Float64Array.from(this.#values);
    const ends = this.#ends === undefined ? {} : { ends: Uint32Array.from(this.#ends) };
    return { name: this.#name, values, shape: [], ...ends };
  }
}

function listIn(cell: string): number[] | undefined {
  try {
    const list: unknown = JSON.parse(cell);
    return Array.isArray(list) && list.every((value) => typeof value === 'number') ? (list as number[]) : undefined;
  } catch {
    // No list, so a text.
    return undefined;
  }
}

class Texts {
  readonly #name: string;
  readonly #values: string[] = [];

  constructor(name: string) {
    this.#name = name;
  }

  add(cell: string): boolean {
    this.#values.push(cell);
    return true;
  }

  done(): Column {
    return { name: this.#name, values: this.#values, shape: [] };
  }
}

interface Row {
  cells: string[];
  /** In the file, from 1; empty lines count. */
  line: number;
}

/** A cell in quotes, in which a quote is doubled, or one without any; then a comma, the end of the line or of the file. */
const CELL = /[ \t]*(?:"((?:[^"]|"")*)"[ \t]*|([^",\r\n]*))(,|\r?\n|$)/y;

/** Reads a text row by row; lines without anything are passed over. */
class Rows {
  readonly #text: string;
  readonly #path: string;
  #at = 0;
  #line = 1;

  constructor(text: string, path: string) {
    this.#text = text;
    this.#path = path;
  }

  get at(): { offset: number; line: number } {
    return { offset: this.#at, line: this.#line };
  }

  set at({ offset, line }: { offset: number; line: number }) {
    [this.#at, this.#line] = [offset, line];
  }

  next(): Row | undefined {
    while (this.#at < this.#text.length) {
      const end = this.#endOfLine();
      const plain = this.#text.slice(this.#at, end).trim();
      if (plain !== '') {
        const line = this.#line;
        // Most files have no quotes at all, and large ones should not wait for an expression.
        if (plain.includes('"')) return { cells: this.#quoted(), line };
        this.#at = end + 1;
        this.#line++;
        return { cells: plain.split(',').map((cell) => cell.trim()), line };
      }
      this.#at = end + 1;
      this.#line++;
    }
    return undefined;
  }

  #endOfLine(): number {
    const end = this.#text.indexOf('\n', this.#at);
    return end < 0 ? this.#text.length : end;
  }

  #quoted(): string[] {
    const cells: string[] = [];
    const first = this.#line;
    for (;;) {
      CELL.lastIndex = this.#at;
      const [whole, quoted, plain = '', after] = CELL.exec(this.#text) ?? [];
      if (whole === undefined) {
        throw new DataError(`${this.#path} line ${first}: a quote is not closed or stands within a cell`);
      }
      cells.push(quoted?.replaceAll('""', '"') ?? plain.trim());
      this.#line += whole.split('\n').length - 1;
      this.#at += whole.length;
      if (after === ',') continue;
      if (after === '') this.#at = this.#text.length;
      return cells;
    }
  }
}
