import type { NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeNode } from '../onnx/nodes.ts';
import { floatTensor } from '../onnx/tensor-data.ts';
import type { RandomStream } from '../random/stream.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';

/** Nodes and initial weights of one layer, and the name of its result. */
export interface Layer {
  nodes: NodeProto[];
  initializers: TensorProto[];
  output: string;
}

/** He et al. 2015 before a ReLU, Glorot and Bengio 2010 otherwise; both uniform. */
type Initialization = 'he' | 'glorot';

export function dense(
  name: string,
  input: string,
  {
    inputs,
    outputs,
    output = name,
    initialization,
    random,
  }: {
    inputs: number;
    outputs: number;
    output?: string;
    initialization: Initialization;
    random: RandomStream;
  },
): Layer {
  const limit = limitOf(initialization, inputs, outputs);
  return {
    nodes: [makeNode('Gemm', [input, `${name}.weight`, `${name}.bias`], [output], {}, name)],
    initializers: [
      uniformTensor(`${name}.weight`, [inputs, outputs], limit, random.fork(name)),
      floatTensor(`${name}.bias`, [outputs], new Float32Array(outputs)),
    ],
    output,
  };
}

/** Square convolution that keeps the image's size. */
export function convolution(
  name: string,
  input: string,
  { channels, filters, kernel, random }: { channels: number; filters: number; kernel: number; random: RandomStream },
): Layer {
  const before = Math.floor((kernel - 1) / 2);
  const after = kernel - 1 - before;
  const attributes = { kernel_shape: [kernel, kernel], pads: [before, before, after, after] };
  const limit = limitOf('he', channels * kernel * kernel, filters * kernel * kernel);
  return {
    nodes: [makeNode('Conv', [input, `${name}.weight`, `${name}.bias`], [name], attributes)],
    initializers: [
      uniformTensor(`${name}.weight`, [filters, channels, kernel, kernel], limit, random.fork(name)),
      floatTensor(`${name}.bias`, [filters], new Float32Array(filters)),
    ],
    output: name,
  };
}

export function relu(input: string): Layer {
  return { nodes: [makeNode('Relu', [input], [`${input}.relu`])], initializers: [], output: `${input}.relu` };
}

export function halve(input: string): Layer {
  const attributes = { kernel_shape: [2, 2], strides: [2, 2] };
  const output = `${input}.pool`;
  return { nodes: [makeNode('MaxPool', [input], [output], attributes)], initializers: [], output };
}

export function flatten(input: string): Layer {
  const output = `${input}.flat`;
  return { nodes: [makeNode('Flatten', [input], [output], { axis: 1 })], initializers: [], output };
}

function limitOf(initialization: Initialization, fanIn: number, fanOut: number): number {
  return Math.sqrt(6 / (initialization === 'he' ? fanIn : fanIn + fanOut));
}

function uniformTensor(name: string, shape: Shape, limit: number, random: RandomStream): TensorProto {
  const values = new Float32Array(sizeOf(shape));
  for (let index = 0; index < values.length; index++) values[index] = (random.uniform() * 2 - 1) * limit;
  return floatTensor(name, shape, values);
}
