import { cnn, fedAvg2nn, fedAvgCnn, logistic, mlp, type ModelProto } from '@commonweight/core';
import { UsageError } from '../output/failure.ts';

/** The sizes that `model create` takes. */
export interface ModelShape {
  inputs?: number;
  outputs?: number;
  hidden?: number[];
  height?: number;
  width?: number;
  channels?: number;
  filters?: number[];
  dense?: number;
  seed: number;
}

/** What `model create` can make. A new kind is one row. */
export const modelKinds: Readonly<Record<string, (shape: ModelShape) => ModelProto>> = {
  mlp: ({ inputs, hidden = [200, 200], outputs, seed }) =>
    mlp({ inputs: needed(inputs, 'inputs'), hidden, outputs: needed(outputs, 'outputs'), seed }),
  logistic: ({ inputs, outputs, seed }) =>
    logistic({ inputs: needed(inputs, 'inputs'), outputs: needed(outputs, 'outputs'), seed }),
  cnn: ({ height = 28, width = 28, channels = 1, filters = [32, 64], dense = 512, outputs = 10, seed }) =>
    cnn({ height, width, channels, filters, dense, outputs, seed }),
  '2nn': ({ seed }) => fedAvg2nn(seed),
  'fedavg-cnn': ({ seed }) => fedAvgCnn(seed),
};

export function builtModel(kind: string, shape: ModelShape): ModelProto {
  const build = modelKinds[kind];
  if (build === undefined)
    throw new UsageError(`'${kind}' is not a kind of model: choose one of ${Object.keys(modelKinds).join(', ')}`);
  return build(shape);
}

function needed(value: number | undefined, flag: string): number {
  if (value === undefined) throw new UsageError(`--${flag} is missing: this kind of model needs to know it`);
  return value;
}
