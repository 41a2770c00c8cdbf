import { madeUpInputs } from '@commonweight/client-sdk';
import { contractOf, type ModelProto, type TensorSpec } from '@commonweight/core';
import { readFile } from 'node:fs/promises';
import { CommandError } from '../output/failure.ts';
import { inputsFrom } from './json-inputs.ts';
import { tensorFor, type Feeds, type Samples } from './run-model.ts';

const BATCH = 32;

/** Inputs from a data set such as `mnist?split=test`, or from a JSON file as `predict --input` takes it. */
export async function readSamples(model: ModelProto, data: string, examplesMax: number): Promise<Samples> {
  const { inputs } = contractOf(model);
  if (data.endsWith('.json')) {
    const feeds = await jsonFeeds(data, inputs);
    return { source: data, batches: [{ feeds }], one: feeds };
  }
  const { exampleInputs, labelsOf, loadDataset } = await import('@commonweight/edge-agent');
  const set = await loadDataset(data);
  const count = Math.min(set.examples, examplesMax);
  const batch = inputs.every(({ dims }) => (dims[0] ?? 1) < 0) ? BATCH : 1;
  const labels = labelsOf(set);
  const batches = [];
  for (let start = 0; start < count; start += batch) {
    const indices = Array.from({ length: Math.min(batch, count - start) }, (_, at) => start + at);
    const known = labels === undefined ? {} : { labels: indices.map((index) => labels[index]!) };
    batches.push({ feeds: exampleInputs(set, inputs, indices), ...known });
  }
  if (batches.length === 0) throw new CommandError(`data '${data}' holds no examples: give another set`);
  return { source: data, batches, one: exampleInputs(set, inputs, [0]) };
}

async function jsonFeeds(file: string, specs: readonly TensorSpec[]): Promise<Feeds> {
  const text = await readFile(file, 'utf8');
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new CommandError(`${file} is not JSON: give an array of numbers, or an object of arrays by input name`, {
      cause,
    });
  }
  const given = inputsFrom(json, specs);
  return Object.fromEntries(
    specs.map((spec) => {
      const data = given[spec.name];
      if (data === undefined) throw new CommandError(`${file} has no values for input '${spec.name}': add them`);
      return [spec.name, tensorFor(spec, data)];
    }),
  );
}

/** Numbers from nowhere, one example, for models of which no data is at hand. */
export function madeUpSamples(model: ModelProto): Samples {
  const feeds = madeUpFeeds(model, 'made up');
  return { source: 'made-up numbers', batches: [{ feeds }], one: feeds };
}

const MADE_UP_ROWS = 64;

/** Many of them, one a run: outputs are compared on them where there is no data. */
export function madeUpRows(model: ModelProto): Samples {
  const batches = Array.from({ length: MADE_UP_ROWS }, (_, row) => ({ feeds: madeUpFeeds(model, `made up ${row}`) }));
  return { source: 'made-up rows', batches, one: batches[0]!.feeds };
}

function madeUpFeeds(model: ModelProto, seed: string): Feeds {
  return madeUpInputs(contractOf(model).inputs, { rows: 1, seed });
}
