/** What several agents found of a version's forms: what cannot be is refused whole, and what can adds up in whole numbers. */
import { create } from '@bufbuild/protobuf';
import { CodecError } from '@commonweight/core';
import { VariantMeasurementSchema, type FormFinding, type VariantMeasurement } from '@commonweight/proto';
import { LABELLED_MIN } from './standing.ts';

export class FormTally {
  readonly #forms: readonly string[];
  readonly #examplesMax: number;
  readonly #reports: (readonly FormFinding[])[] = [];

  /** `examplesMax`: the most that one agent may speak for. */
  constructor(forms: readonly string[], examplesMax: number) {
    this.#forms = forms;
    this.#examplesMax = examplesMax;
  }

  /** Agents that measured some of the forms. */
  get agents(): number {
    return this.#reports.length;
  }

  /** Takes one agent's report. Throws CodecError where it is not one of these forms, or its counts cannot be. */
  add(findings: readonly FormFinding[]): void {
    const names = findings.map(({ form }) => form);
    const isWhole = names.length === this.#forms.length && this.#forms.every((form) => names.includes(form));
    if (!isWhole)
      throw new CodecError(
        `it speaks of ${names.join(', ').slice(0, 80) || 'no form'}, and was asked for ${this.#forms.join(', ')}`,
      );
    const measured = findings.filter(({ failure }) => failure === '');
    for (const finding of measured) requirePossible(finding, this.#examplesMax);
    if (measured.length === 0) throw new CodecError(findings[0]?.failure ?? 'it was asked for no form');
    this.#reports.push(findings);
  }

  /** A form over all that measured it; undefined where they are fewer than it takes. `data` says whose examples those of some agents are. */
  measurement(form: string, agentsMin: number, data: (agents: number) => string): VariantMeasurement | undefined {
    const all = this.#of(form).filter(({ failure }) => failure === '');
    if (all.length < agentsMin) return undefined;
    const labelled = all.filter((finding) => finding.labelled);
    // Answers are right or wrong of those alone who have labels; where that is too few to decide by, outputs of all do.
    const isLabelled = labelled.length >= agentsMin && total(labelled, 'examples') >= LABELLED_MIN;
    const hasAccuracy = isLabelled || labelled.length === all.length;
    const counted = hasAccuracy ? labelled : all;
    const examples = total(counted, 'examples');
    // An agent weighs what it has examples, however many rows a single one of them gives.
    const agreeing = counted.reduce((sum, each) => sum + Number(each.examples) * agreementOf(each), 0);
    const share = (of: 'float32Right' | 'right'): number => total(counted, of) / examples;
    return create(VariantMeasurementSchema, {
      data: data(counted.length),
      examples: BigInt(examples),
      difference: counted.reduce((most, { difference }) => (difference <= most ? most : difference), 0),
      agreement: Math.min(1, agreeing / examples),
      ...(hasAccuracy ? { accuracy: { float32: share('float32Right'), variant: share('right') } } : {}),
    });
  }

  /** Why agents could not measure a form; undefined where none said so. */
  failure(form: string): string | undefined {
    return this.#of(form).find(({ failure }) => failure !== '')?.failure;
  }

  #of(form: string): FormFinding[] {
    return this.#reports.flatMap((findings) => findings.filter((finding) => finding.form === form));
  }
}

function requirePossible(finding: FormFinding, examplesMax: number): void {
  const { examples, labelled, float32Right, right, rows, agreeing, difference } = finding;
  const form = finding.form.slice(0, 40);
  if (examples < 1n || examples > BigInt(examplesMax)) throw new CodecError(`it ran ${form} on ${examples} examples`);
  if (right > examples || float32Right > examples) throw new CodecError(`it got more right with ${form} than it ran`);
  if (!labelled && (right > 0n || float32Right > 0n))
    throw new CodecError(`it got some right with ${form} and has no labels`);
  if (agreeing > rows) throw new CodecError(`more rows of ${form} agree than there are`);
  // Infinity and NaN are findings: outputs that are not finite.
  if (difference < 0) throw new CodecError(`outputs of ${form} differ by less than nothing`);
}

const total = (findings: readonly FormFinding[], of: 'examples' | 'float32Right' | 'right'): number =>
  Number(findings.reduce((sum, finding) => sum + finding[of], 0n));

const agreementOf = ({ rows, agreeing }: FormFinding): number => (rows === 0n ? 1 : Number(agreeing) / Number(rows));
