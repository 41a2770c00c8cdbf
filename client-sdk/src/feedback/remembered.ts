import { hex } from '../hex.ts';
import { ModelError } from '../errors.ts';
import { placeOfLargest } from '../runtime/deviation.ts';
import { bytesIn, type Feeds, type Tensor, type TypedTensor } from '../runtime/tensor.ts';

/** A prediction of which the app may say later what would have been right. */
export interface Remembered {
  version: number;
  /** Copies of what was asked. */
  feeds: Feeds;
  rows: number;
  /** The place of the largest output of each row, where outputs are of classes. */
  guesses: readonly number[] | undefined;
  /** Classes that there are; undefined where outputs are no classes. */
  classes: number | undefined;
}

export interface RememberOptions {
  /** Predictions that are remembered. */
  predictionsMax?: number;
  /** Bytes of their inputs. */
  inputBytesMax?: number;
  /** For how long. */
  expiresMs?: number;
}

const PREDICTIONS_MAX = 1_000;
const INPUT_BYTES_MAX = 16 * 1024 * 1024;
const EXPIRES_MS = 3_600_000;

/** The last predictions by their ids. Whatever is too many, too large or too long ago is forgotten, the oldest first. */
export class RememberedPredictions {
  readonly #options: Required<RememberOptions>;
  readonly #nowMs: () => number;
  readonly #entries = new Map<number, { remembered: Remembered; bytes: number; atMs: number } | 'answered'>();
  #bytes = 0;
  #predictions = 0;
  /** Of this handle on the model: ids of another mean other predictions. */
  readonly #prefix = hex(crypto.getRandomValues(new Uint8Array(4)));

  constructor(options: RememberOptions = {}, nowMs: () => number = () => performance.now()) {
    const { predictionsMax = PREDICTIONS_MAX, inputBytesMax = INPUT_BYTES_MAX, expiresMs = EXPIRES_MS } = options;
    this.#options = { predictionsMax, inputBytesMax, expiresMs };
    this.#nowMs = nowMs;
  }

  /** The id of the next prediction, which is remembered once `remember` is called with what came of it. */
  next(): number {
    return (this.#predictions += 1);
  }

  idOf(number: number): string {
    return `${this.#prefix}-${number}`;
  }

  remember(number: number, remembered: Remembered): void {
    const bytes = Object.values(remembered.feeds).reduce((sum, { data }) => sum + bytesIn(data), 0);
    this.#entries.set(number, { remembered, bytes, atMs: this.#nowMs() });
    this.#bytes += bytes;
    const { predictionsMax, inputBytesMax } = this.#options;
    for (const [oldest] of this.#entries) {
      if (this.#entries.size <= predictionsMax && this.#bytes <= inputBytesMax && !this.#isExpired(oldest)) return;
      this.#forget(oldest);
    }
  }

  /** What is remembered under an id, once. Throws ModelError naming why there is nothing. */
  take(id: string): Remembered {
    const [, prefix, text] = /^([0-9a-f]{8})-(\d{1,15})$/.exec(id) ?? [];
    const number = Number(text);
    if (prefix !== this.#prefix || number < 1 || number > this.#predictions)
      throw new ModelError(`'${id.slice(0, 80)}' is the id of no prediction that this model made since it was opened`);
    const entry = this.#entries.get(number);
    if (entry === 'answered') throw new ModelError(`there was feedback on prediction ${id} already`);
    if (entry === undefined || this.#isExpired(number)) {
      const { predictionsMax, inputBytesMax, expiresMs } = this.#options;
      throw new ModelError(
        `prediction ${id} is not remembered any more: the last ${predictionsMax} are, with up to ${inputBytesMax} bytes of inputs, for ${expiresMs / 60_000} minutes`,
      );
    }
    this.#forget(number);
    // So that the same mistake twice is told from an id that is too old.
    this.#entries.set(number, 'answered');
    return entry.remembered;
  }

  /** Gives back what was taken and could not be used. */
  putBack(id: string, remembered: Remembered): void {
    this.remember(Number(id.split('-')[1]), remembered);
  }

  #isExpired(number: number): boolean {
    const entry = this.#entries.get(number);
    return typeof entry === 'object' && this.#nowMs() - entry.atMs > this.#options.expiresMs;
  }

  #forget(number: number): void {
    const entry = this.#entries.get(number);
    if (typeof entry === 'object') this.#bytes -= entry.bytes;
    this.#entries.delete(number);
  }
}

/** Rows of what was asked, and what the model made of each. */
export function rememberedOf(
  version: number,
  feeds: Feeds,
  outputs: Record<string, Tensor>,
  isBatched: boolean,
): Remembered {
  const rows = isBatched ? (Object.values(feeds)[0]?.dims[0] ?? 1) : 1;
  const scores = Object.values(outputs).find(({ dims }) => dims.length > 1 && dims[0] === rows && dims.at(-1)! > 1);
  if (scores === undefined) return { version, feeds, rows, guesses: undefined, classes: undefined };
  const width = scores.dims.at(-1)!;
  const isFlat = scores.data.length === rows * width;
  const values = Array.from(scores.data as ArrayLike<number | bigint>, Number);
  const guesses = Array.from({ length: rows }, (_, row) => placeOfLargest(values, row * width, width));
  return { version, feeds, rows, guesses: isFlat ? guesses : undefined, classes: isFlat ? width : undefined };
}

/** One row of what was asked. */
export function rowOf({ feeds, rows }: Remembered, row: number): Feeds {
  if (rows === 1) return feeds;
  return Object.fromEntries(
    Object.entries(feeds).map(([name, { type, data, dims }]): [string, TypedTensor] => {
      const size = data.length / rows;
      return [name, { type, data: data.slice(row * size, (row + 1) * size), dims: [1, ...dims.slice(1)] }];
    }),
  );
}
