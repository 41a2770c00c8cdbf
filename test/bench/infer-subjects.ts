/** The models of `bench infer`, trained on real digits. */
import {
  cnn,
  fedAvgCnn,
  logistic,
  mlp,
  pruneChannels,
  quantizedForms,
  type ModelProto,
  type QuantizedForm,
} from '@commonweight/core';
import { arrayDataset, type Dataset } from '@commonweight/edge-agent';
import { examplesOf, outputsOf, trainedOn } from '../support/digit-models.ts';
import { transformer } from '../support/transformer.ts';
import type { Subject } from './infer-forms.ts';

/** A model, and the form that its figures `speedup_int8_…` are of. */
export interface Family extends Subject {
  form: QuantizedForm;
}

export async function familiesOf(train: Dataset): Promise<Record<string, Family>> {
  const forms = quantizedForms;
  const convolutional = await trainedOn(train, fedAvgCnn(1), 180);
  return {
    mlp: {
      model: await trainedOn(train, mlp({ inputs: 784, hidden: [1024, 1024], outputs: 10, seed: 1 }), 360),
      dims: [784],
      form: 'dynamic-int8',
      forms,
    },
    cnn: {
      model: convolutional,
      dims: [1, 28, 28],
      form: 'static-int8',
      forms,
      others: { pruned: await trainedOn(train, pruneChannels(convolutional, { sparsity: 0.5 }).model, 100) },
    },
    transformer: { model: await trainedTransformer(train), dims: [28, 28], form: 'dynamic-int8', forms },
    // So little work in it that rounding what goes in and out costs more than int8 saves.
    small_mlp: {
      model: await trainedOn(train, mlp({ inputs: 784, hidden: [8], outputs: 10, seed: 1 }), 360),
      dims: [784],
      form: 'dynamic-int8',
      forms,
    },
    small_cnn: {
      model: await trainedOn(train, cnn({ filters: [4, 8], kernel: 3, dense: 16, seed: 1 }), 360),
      dims: [1, 28, 28],
      form: 'static-int8',
      forms,
    },
  };
}

/** Random features of 28 rows of pixels, and a trained head on them. */
async function trainedTransformer(train: Dataset): Promise<ModelProto> {
  const [tokens, width] = [28, 256];
  const encoder = transformer({ tokens, tokenSize: 28, width, heads: 4, layers: 3, seed: 1 });
  const examples = 2000;
  const { inputs, labels } = examplesOf(train, 0, examples);
  const features = (await outputsOf(encoder, inputs, [examples, 28, 28])).get('features')!;
  const data = arrayDataset('features', { values: features, shape: [tokens * width], labels });
  const head = await trainedOn(data, logistic({ inputs: tokens * width, outputs: 10, seed: 1 }), 1600, 5e-4);
  const headNodes = head.graph!.node.map((node) => ({
    ...node,
    input: node.input.map((name) => (name === 'input' ? 'features' : name)),
  }));
  return {
    ...encoder,
    graph: {
      ...encoder.graph!,
      node: [...encoder.graph!.node, ...headNodes],
      initializer: [...encoder.graph!.initializer, ...head.graph!.initializer],
      output: head.graph!.output,
    },
  };
}
