import { DataError, type Column, type Dataset } from './dataset.ts';
import { readText } from './read-text.ts';

/** Axes of one example's values. */
const AXES_MAX = 8;

/** A file of one JSON object a line, `{"age": 41, "text": "...", "label": 1}`: numbers, true or false, texts, or nested lists of one of them. */
export async function readJsonl(path: string): Promise<Omit<Dataset, 'label'>> {
  return parseJsonl(await readText(path), path);
}

export function parseJsonl(text: string, path: string): Omit<Dataset, 'label'> {
  const builders = new Map<string, ColumnBuilder>();
  const lines: number[] = [];
  let at = 0;
  for (let line = 1; at < text.length; line++) {
    const next = text.indexOf('\n', at);
    const end = next < 0 ? text.length : next;
    const content = text.slice(at, end).trim();
    at = end + 1;
    if (content === '') continue;
    const where = `${path} line ${line}`;
    const object = objectIn(content, where);
    if (lines.length === 0) for (const name of Object.keys(object)) builders.set(name, new ColumnBuilder(name));
    const stray = Object.keys(object).find((name) => !builders.has(name));
    if (stray !== undefined)
      throw new DataError(`${where} has "${stray}", which the first object has not: give all the same names`);
    for (const [name, builder] of builders) {
      const value = object[name];
      if (value === undefined || value === null) {
        throw new DataError(
          `${where} has no "${name}", which the first object has: give a value, or leave the line out`,
        );
      }
      builder.add(value, where);
    }
    lines.push(line);
  }
  if (lines.length === 0) throw new DataError(`${path} has no objects: give one JSON object a line`);
  const columns = [...builders.values()].map((builder) => builder.done());
  return { source: path, examples: lines.length, columns, lines: Uint32Array.from(lines) };
}

function objectIn(line: string, where: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new DataError(`${where} is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new DataError(`${where} is no object: write {"name": value, ...}`);
}

/** Collects the values of one name; lists may differ in length along their first axis alone. */
class ColumnBuilder {
  readonly #name: string;
  readonly #values: (number | string)[] = [];
  readonly #ends: number[] = [];
  #shape: readonly number[] | undefined;
  #isList = false;
  #isText: boolean | undefined;

  constructor(name: string) {
    this.#name = name;
  }

  add(value: unknown, where: string): void {
    const isList = Array.isArray(value);
    if (this.#shape !== undefined && isList !== this.#isList)
      throw this.#odd(where, 'is a list in one place and a value in another');
    this.#isList = isList;
    const items: readonly unknown[] = isList ? value : [value];
    for (const item of items) {
      const shape = shapeIn(item);
      this.#shape ??= shape;
      if (shape.length > AXES_MAX || shape.includes(-1) || shape.join() !== this.#shape.join()) {
        throw this.#odd(
          where,
          `has lists of different lengths within one another: lists of one value may differ in their first length alone`,
        );
      }
      this.#take(item, where);
    }
    // Of an empty list no shape is known, so that it may come first.
    this.#ends.push((this.#ends.at(-1) ?? 0) + items.length);
  }

  #take(item: unknown, where: string): void {
    if (Array.isArray(item)) {
      for (const inner of item) this.#take(inner, where);
      return;
    }
    const isText = typeof item === 'string';
    if (!isText && typeof item !== 'number' && typeof item !== 'boolean') {
      throw this.#odd(where, `holds ${JSON.stringify(item)?.slice(0, 80)}, which is no number, truth or text`);
    }
    this.#isText ??= isText;
    if (this.#isText !== isText) throw this.#odd(where, 'holds numbers and texts');
    this.#values.push(isText ? item : Number(item));
  }

  #odd(where: string, what: string): DataError {
    return new DataError(`${where}: "${this.#name}" ${what}`);
  }

  done(): Column {
    const values = this.#isText === true ? (this.#values as string[]) : Float64Array.from(this.#values as number[]);
    const shape = this.#shape ?? [];
    if (!this.#isList) return { name: this.#name, values, shape };
    const [first = 0] = this.#ends;
    const isEven = this.#ends.every((end, index) => end === (index + 1) * first);
    if (isEven && first > 0) return { name: this.#name, values, shape: [first, ...shape] };
    return { name: this.#name, values, shape, ends: Uint32Array.from(this.#ends) };
  }
}

/** Of nested lists; -1 stands for lists of different lengths. */
function shapeIn(value: unknown): number[] {
  if (!Array.isArray(value)) return [];
  const inner = value.map(shapeIn);
  const [first = []] = inner;
  return inner.every((shape) => shape.join() === first.join()) ? [value.length, ...first] : [value.length, -1];
}
