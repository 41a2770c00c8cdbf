import { Deviations, placeOfLargest, type Tensor } from '@commonweight/client-sdk';
import type { FormCounts } from './messages.ts';

type Outputs = Record<string, Tensor>;

/** Counts how a form answers beside float32, example by example. */
export class FormComparison {
  readonly #names: readonly string[];
  readonly #labels: ArrayLike<number> | undefined;
  readonly #deviations = new Deviations();
  readonly #counts = { examples: 0, float32Right: 0, right: 0 };
  #isLabelled: boolean;

  /** `names`: of the outputs in their order. `labels`: the class of each example of the set, where the first output tells classes apart. */
  constructor(names: readonly string[], labels: ArrayLike<number> | undefined) {
    this.#names = names;
    this.#labels = labels;
    this.#isLabelled = labels !== undefined;
  }

  /** What both gave for one example. Throws an Error where they cannot be compared. */
  add(example: number, float32: Outputs, form: Outputs): void {
    for (const name of this.#names)
      if (form[name]?.data.length !== float32[name]?.data.length)
        throw new Error(`the form gives another '${name}' than float32`);
    this.#deviations.add(float32, form);
    this.#counts.examples += 1;
    this.#addAnswers(example, float32[this.#names[0]!], form[this.#names[0]!]);
  }

  counts(): FormCounts {
    const { examples, float32Right, right } = this.#counts;
    const { rows, agreeing, difference } = this.#deviations;
    const labelled = this.#isLabelled && examples > 0;
    const answers = labelled ? { float32Right, right } : { float32Right: 0, right: 0 };
    return { examples, labelled, ...answers, rows, agreeing, difference };
  }

  #addAnswers(example: number, float32: Tensor | undefined, form: Tensor | undefined): void {
    const classes = float32?.dims.at(-1) ?? 1;
    // Several answers an example, or none that is a class: there is no label for each.
    if (!(float32?.data instanceof Float32Array) || classes < 2 || float32.data.length !== classes)
      this.#isLabelled = false;
    if (!this.#isLabelled) return;
    const label = this.#labels?.[example];
    if (placeOfLargest(float32!.data as Float32Array, 0, classes) === label) this.#counts.float32Right += 1;
    if (placeOfLargest(form!.data as Float32Array, 0, classes) === label) this.#counts.right += 1;
  }
}
