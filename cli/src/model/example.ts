import type { Inputs, InputValue, Model } from '@commonweight/client-sdk';
import { readFile } from 'node:fs/promises';
import { UsageError } from '../output/failure.ts';
import { inputsFrom } from './json-inputs.ts';

/** Where one example comes from. */
export interface ExampleFlags {
  /** JSON file. */
  input?: string;
  /** Image files, one for each row. */
  image?: readonly string[];
  /** Data specification. */
  data?: string;
  /** Which example of the data. */
  index: number;
}

/** One example for a model, and what is known of it. */
export interface Example {
  inputs: Inputs;
  /** A class, by its name where it has one. */
  label?: number | string;
  /** Names of the values. */
  columns?: string[] | undefined;
}

/** Reads what the flags name before a coordinator is asked, and gives what makes inputs of it. Throws UsageError. */
export async function exampleFrom(flags: ExampleFlags): Promise<(model: Model) => Example> {
  const { input, image, data, index } = flags;
  const ways = [input, image, data].filter((way) => way !== undefined);
  if (ways.length !== 1) throw new UsageError('give either --input FILE, --image FILE or --data SPEC');
  if (input !== undefined) {
    const json: unknown = JSON.parse(await readFile(input, 'utf8'));
    return (model) => ({ inputs: inputsFrom(json, model.contract?.inputs ?? []) });
  }
  if (image !== undefined) {
    const images = image.map((file) => ({ image: file }));
    return (model) => ({ inputs: firstInput(model, images) });
  }
  const { exampleInputs, labelsOf, loadDataset, valueNames } = await import('@commonweight/edge-agent');
  const set = await loadDataset(data!);
  const { examples, classes } = set;
  if (index >= examples) throw new UsageError(`--index ${index} is past the end: ${data} has ${examples} examples`);
  const label = labelsOf(set)?.[index];
  return (model) => ({
    inputs: exampleInputs(set, model.contract?.inputs ?? [], [index]),
    ...(label === undefined ? {} : { label: classes?.[label] ?? label }),
    columns: valueNames(set),
  });
}

const firstInput = (model: Model, values: InputValue): Inputs => ({
  [model.contract?.inputs[0]?.name ?? 'input']: values,
});
