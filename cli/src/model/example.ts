import type { Inputs, Model } from '@commonweight/client-sdk';
import { readFile } from 'node:fs/promises';
import { UsageError } from '../output/failure.ts';
import { inputsFrom } from './json-inputs.ts';

/** Where one example comes from. */
export interface ExampleFlags {
  /** JSON file. */
  input?: string;
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
  const { input, data, index } = flags;
  if ((input === undefined) === (data === undefined)) throw new UsageError('give either --input FILE or --data SPEC');
  if (input !== undefined) {
    const json: unknown = JSON.parse(await readFile(input, 'utf8'));
    return (model) => ({ inputs: inputsFrom(json, model.contract?.inputs ?? []) });
  }
  const { columnsOf, loadDataset } = await import('@commonweight/edge-agent');
  const { inputs, labels, examples } = await loadDataset(data!);
  if (index >= examples) throw new UsageError(`--index ${index} is past the end: ${data} has ${examples} examples`);
  const size = inputs.length / examples;
  const values = inputs.slice(index * size, (index + 1) * size);
  const columns = await columnsOf(data!);
  return (model) => ({
    inputs: { [model.contract?.inputs[0]?.name ?? 'input']: values },
    label: labels[index] ?? -1,
    columns,
  });
}
