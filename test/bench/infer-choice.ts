/** What `variant: 'auto'` would serve of a model on this machine, by the chooser that apps and agents have. */
import { contractOf, writeModel, type ModelProto } from '@commonweight/core';
import type { Dataset } from '@commonweight/edge-agent';
import { chooseVariant, type ChosenVariant } from '../../client-sdk/src/runtime/choose-variant.ts';
import { Engines, enginesFor } from '../../client-sdk/src/runtime/engines.ts';
import { Measurements } from '../../client-sdk/src/runtime/measurements.ts';
import type { PublishableName } from '../../client-sdk/src/runtime/variant.ts';
import { MemoryStorage } from '../../client-sdk/src/platform/storage.ts';
import { nodePlatform } from '../../client-sdk/src/platform/node.ts';
import { examplesOf } from '../support/digit-models.ts';

const EXAMPLES = 256;

/** A form as the coordinator would have published it. */
export interface Offered {
  name: PublishableName;
  model: ModelProto;
}

/**
 * Chooses among forms that are made here and those that are offered, on one thread of the CPU, with a storage of its own: nothing was
 * measured before. Ranges and outputs are of examples of the training data.
 */
export async function chosenOf(
  family: string,
  {
    model,
    dims,
    offered,
    train,
  }: { model: ModelProto; dims: readonly number[]; offered: readonly Offered[]; train: Dataset },
): Promise<ChosenVariant> {
  const threads = 1;
  const onnx = writeModel(model);
  const contract = contractOf(model);
  const rows = Array.from({ length: EXAMPLES }, (_, index) => ({
    input: { type: 'float32' as const, data: examplesOf(train, index, 1).inputs, dims: [1, ...dims] },
  }));
  const forms = offered.map((form) => ({
    name: form.name,
    why: 'made by the benchmark',
    onnx: writeModel(form.model),
  }));
  return await chooseVariant(
    { family, onnx, contract, recent: [], published: { forms, withheld: new Map() } },
    {
      choice: 'auto',
      threads,
      measurements: new Measurements(new MemoryStorage(), nodePlatform.crypto.sha256),
      engines: await enginesFor('ort-cpu', nodePlatform.engines),
      openEngines: (sources) => new Engines(sources, { threads }),
      makeForms: nodePlatform.makeForms,
      examples: () => Promise.resolve(rows),
    },
  );
}
