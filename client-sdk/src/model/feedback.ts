import type { FeedbackStore } from '../feedback/feedback-folder.ts';
import {
  rememberedOf,
  RememberedPredictions,
  rowOf,
  type Remembered,
  type RememberOptions,
} from '../feedback/remembered.ts';
import { InputError } from '../errors.ts';
import type { Feeds, Tensor, TypedTensor } from '../runtime/tensor.ts';
import type { Life } from './life.ts';

/** What becomes of what an app says of predictions. */
export interface FeedbackOptions extends RememberOptions {
  /** Where labelled examples are kept for an agent; without it a folder in `cacheDir`. In a browser nothing is kept, and accuracy counts. */
  folder?: string;
  /** What the folder may take. */
  diskBytesMax?: number;
}

/** What would have been right: the class, or one for each row of what was asked. */
export type Truth = { label: number } | { labels: readonly number[] };

const CLASSES_MAX = 2 ** 31;

/** Remembers predictions until the app says what would have been right, and hands both on. */
export class Feedback {
  readonly #life: Life;
  readonly #store: FeedbackStore | undefined;
  readonly #predictions: RememberedPredictions;

  constructor(life: Life, store: FeedbackStore | undefined, options: RememberOptions) {
    this.#life = life;
    this.#store = store;
    this.#predictions = new RememberedPredictions(options);
  }

  /** Takes copies of inputs before they are handed over. What it gives says the prediction's id, once outputs are there. */
  copied(version: number, feeds: Feeds, isBatched: boolean): (outputs: Record<string, Tensor>) => string {
    const copies = Object.fromEntries(
      Object.entries(feeds).map(([name, tensor]): [string, TypedTensor] => [
        name,
        { ...tensor, data: tensor.data.slice() },
      ]),
    );
    return (outputs) => {
      const number = this.#predictions.next();
      this.#predictions.remember(number, rememberedOf(version, copies, outputs, isBatched));
      return this.#predictions.idOf(number);
    };
  }

  /** On disk when this resolves, where there is a folder. Throws ModelError or InputError naming what is wrong. */
  async give(id: string, truth: Truth): Promise<void> {
    const remembered = this.#predictions.take(id);
    try {
      const labels = labelsIn(truth, remembered);
      await this.#keep(remembered, labels);
      const { version, guesses } = remembered;
      if (guesses !== undefined)
        this.#life.uses.labelled(version, labels.length, labels.filter((label, row) => label === guesses[row]).length);
    } catch (error) {
      // It may be given again, as it should be.
      this.#predictions.putBack(id, remembered);
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#store?.close();
  }

  async #keep(remembered: Remembered, labels: readonly number[]): Promise<void> {
    const { version, guesses } = remembered;
    const model = this.#life.name;
    await this.#store?.add(
      labels.map((label, row) => {
        const inputs = rowOf(remembered, row);
        return { model, version, guess: guesses?.[row], label, atMs: Date.now(), inputs };
      }),
    );
  }
}

function labelsIn(truth: Truth, { rows, classes }: Remembered): readonly number[] {
  const labels = 'labels' in truth ? truth.labels : [truth.label];
  if (!Array.isArray(labels) || labels.length !== rows) {
    throw new InputError(
      rows === 1
        ? 'feedback on one row is { label }'
        : `feedback on ${rows} rows is { labels } with as many labels, not ${Array.isArray(labels) ? labels.length : 'one'}`,
    );
  }
  for (const label of labels) {
    if (Number.isInteger(label) && label >= 0 && label < (classes ?? CLASSES_MAX)) continue;
    throw new InputError(
      `a label is a whole number from 0${classes === undefined ? '' : ` to ${classes - 1}, for there are ${classes} classes`}, not ${String(label)}`,
    );
  }
  return labels;
}
