import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeValue } from '../onnx/nodes.ts';
import { seeded } from '../random/stream.ts';
import { dense, relu } from './layers.ts';
import type { Layer } from './layers.ts';

export interface MlpOptions {
  inputs: number;
  hidden: readonly number[];
  outputs: number;
  seed: number | bigint | string;
}

/** Fully connected layers with ReLU between them; input `[batch, inputs]`, output `logits`. */
export function mlp({ inputs, hidden, outputs, seed }: MlpOptions): ModelProto {
  const random = seeded(seed);
  const layers: Layer[] = [];
  let [tensor, width] = ['input', inputs];
  hidden.forEach((units, index) => {
    const layer = dense(`hidden${index + 1}`, tensor, { inputs: width, outputs: units, initialization: 'he', random });
    const activation = relu(layer.output);
    layers.push(layer, activation);
    [tensor, width] = [activation.output, units];
  });
  layers.push(dense('output', tensor, { inputs: width, outputs, output: 'logits', initialization: 'glorot', random }));
  return makeModel({
    name: 'mlp',
    node: layers.flatMap(({ nodes }) => nodes),
    initializer: layers.flatMap(({ initializers }) => initializers),
    input: [makeValue('input', ['batch', inputs])],
    output: [makeValue('logits', ['batch', outputs])],
  });
}

export interface LogisticOptions {
  inputs: number;
  outputs: number;
  seed: number | bigint | string;
}

/** Multinomial logistic regression. */
export function logistic({ inputs, outputs, seed }: LogisticOptions): ModelProto {
  return mlp({ inputs, hidden: [], outputs, seed });
}

/** The "2NN" of McMahan et al. 2017: 199,210 parameters. */
export function fedAvg2nn(seed: number | bigint | string): ModelProto {
  return mlp({ inputs: 784, hidden: [200, 200], outputs: 10, seed });
}
