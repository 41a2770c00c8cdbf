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
  label?: number;
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
  const { columnsOf, loadDataset } = await import('@commonweight/edge-agent');
  const { inputs, labels, examples } = await loadDataset(data!);
  if (index >= examples) throw new UsageError(`--index ${index} is past the end: ${data} has ${examples} examples`);
  const size = inputs.length / examples;
  const values = inputs.slice(index * size, (index + 1) * size);
  const columns = await columnsOf(data!);
  return (model) => ({
    inputs: firstInput(model, values),
    label: labels[index] ?? -1,
    columns,
  });
}

const firstInput = (model: Model, values: InputValue): Inputs => ({
  [model.contract?.inputs[0]?.name ?? 'input']: values,
});
