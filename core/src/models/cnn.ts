import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeValue } from '../onnx/nodes.ts';
import { seeded } from '../random/stream.ts';
import { convolution, dense, flatten, halve, relu } from './layers.ts';
import type { Layer } from './layers.ts';

export interface CnnOptions {
  height?: number;
  width?: number;
  channels?: number;
  filters?: readonly number[];
  kernel?: number;
  dense?: number;
  outputs?: number;
  seed: number | bigint | string;
}

/** Convolutions, each halved by pooling, then two dense layers; input `[batch, channels, height, width]`. */
export function cnn({
  height = 28,
  width = 28,
  channels = 1,
  filters = [32, 64],
  kernel = 5,
  dense: units = 512,
  outputs = 10,
  seed,
}: CnnOptions): ModelProto {
  const random = seeded(seed);
  const layers: Layer[] = [];
  const add = (layer: Layer): string => {
    layers.push(layer);
    return layer.output;
  };
  let tensor = 'input';
  let depth = channels;
  filters.forEach((count, index) => {
    const options = { channels: depth, filters: count, kernel, random };
    tensor = add(halve(add(relu(add(convolution(`conv${index + 1}`, tensor, options))))));
    depth = count;
  });
  const area = Math.floor(height / 2 ** filters.length) * Math.floor(width / 2 ** filters.length);
  tensor = add(flatten(tensor));
  tensor = add(dense('hidden', tensor, { inputs: depth * area, outputs: units, initialization: 'he', random }));
  tensor = add(relu(tensor));
  add(dense('output', tensor, { inputs: units, outputs, output: 'logits', initialization: 'glorot', random }));
  return makeModel({
    name: 'cnn',
    node: layers.flatMap(({ nodes }) => nodes),
    initializer: layers.flatMap(({ initializers }) => initializers),
    input: [makeValue('input', ['batch', channels, height, width])],
    output: [makeValue('logits', ['batch', outputs])],
  });
}

/** The CNN of McMahan et al. 2017: 1,663,370 parameters. */
export function fedAvgCnn(seed: number | bigint | string): ModelProto {
  return cnn({ seed });
}
