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

const SIZES = ['inputs', 'outputs', 'hidden', 'height', 'width', 'channels', 'filters', 'dense'] as const;

interface ModelKind {
  /** The sizes that it reads. */
  sizes: readonly (typeof SIZES)[number][];
  build(shape: ModelShape): ModelProto;
}

/** What `model create` can make. A new kind is one row. */
export const modelKinds: Readonly<Record<string, ModelKind>> = {
  mlp: {
    sizes: ['inputs', 'hidden', 'outputs'],
    build: ({ inputs, hidden = [200, 200], outputs, seed }) =>
      mlp({ inputs: needed(inputs, 'inputs'), hidden, outputs: needed(outputs, 'outputs'), seed }),
  },
  logistic: {
    sizes: ['inputs', 'outputs'],
    build: ({ inputs, outputs, seed }) =>
      logistic({ inputs: needed(inputs, 'inputs'), outputs: needed(outputs, 'outputs'), seed }),
  },
  cnn: {
    sizes: ['height', 'width', 'channels', 'filters', 'dense', 'outputs'],
    build: ({ height = 28, width = 28, channels = 1, filters = [32, 64], dense = 512, outputs = 10, seed }) =>
      cnn({ height, width, channels, filters, dense, outputs, seed }),
  },
  '2nn': { sizes: [], build: ({ seed }) => fedAvg2nn(seed) },
  'fedavg-cnn': { sizes: [], build: ({ seed }) => fedAvgCnn(seed) },
};

/** Builds a kind of model. Throws UsageError where a size is missing, or would be ignored. */
export function builtModel(kind: string, shape: ModelShape): ModelProto {
  const known = modelKinds[kind];
  if (known === undefined)
    throw new UsageError(`'${kind}' is not a kind of model: choose one of ${Object.keys(modelKinds).join(', ')}`);
  const ignored = SIZES.find((size) => shape[size] !== undefined && !known.sizes.includes(size));
  if (ignored !== undefined) {
    const takes = known.sizes.length === 0 ? 'no sizes' : known.sizes.map((size) => `--${size}`).join(', ');
    throw new UsageError(`--${ignored} means nothing to ${kind}: it takes ${takes}`);
  }
  return known.build(shape);
}

function needed(value: number | undefined, flag: string): number {
  if (value === undefined) throw new UsageError(`--${flag} is missing: this kind of model needs to know it`);
  return value;
}
