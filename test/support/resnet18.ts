import type { ModelProto } from '@commonweight/core';
import type { NodeProto, TensorProto } from '../../core/src/onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../../core/src/onnx/nodes.ts';
import { floatTensor } from '../../core/src/onnx/tensor-data.ts';

/** ResNet-18 (He et al. 2016) for images of 224 by 224 and 1,000 classes, as torchvision has it: 11,689,512 parameters and the running statistics. */
export function resnet18(): ModelProto {
  const node: NodeProto[] = [];
  const initializer: TensorProto[] = [];
  const weight = (name: string, shape: readonly number[], value = 0.01): string => {
    initializer.push(floatTensor(name, shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value)));
    return name;
  };
  const convolution = (
    x: string,
    name: string,
    [inputs, outputs, kernel, stride]: readonly [number, number, number, number],
  ): string => {
    const pad = (kernel - 1) / 2;
    const attributes = { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad] };
    node.push(makeNode('Conv', [x, weight(`${name}.weight`, [outputs, inputs, kernel, kernel])], [name], attributes));
    const norm = [`${name}.gain`, `${name}.bias`, `${name}.mean`, `${name}.variance`];
    const numbers = norm.map((one, index) => weight(one, [outputs], index % 2 === 0 ? 1 : 0.5));
    node.push(makeNode('BatchNormalization', [name, ...numbers], [`${name}.norm`], { training_mode: 0 }));
    return `${name}.norm`;
  };
  const relu = (x: string): string => {
    node.push(makeNode('Relu', [x], [`${x}.relu`]));
    return `${x}.relu`;
  };
  const block = (x: string, name: string, inputs: number, outputs: number, stride: number): string => {
    const first = relu(convolution(x, `${name}.conv1`, [inputs, outputs, 3, stride]));
    const second = convolution(first, `${name}.conv2`, [outputs, outputs, 3, 1]);
    const skip = stride === 1 && inputs === outputs ? x : convolution(x, `${name}.down`, [inputs, outputs, 1, stride]);
    node.push(makeNode('Add', [second, skip], [`${name}.sum`]));
    return relu(`${name}.sum`);
  };
  let x = relu(convolution('input', 'stem', [3, 64, 7, 2]));
  node.push(makeNode('MaxPool', [x], ['pool'], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }));
  x = 'pool';
  for (const [stage, outputs] of [64, 128, 256, 512].entries()) {
    const inputs = stage === 0 ? 64 : outputs / 2;
    x = block(x, `layer${stage + 1}.0`, inputs, outputs, stage === 0 ? 1 : 2);
    x = block(x, `layer${stage + 1}.1`, outputs, outputs, 1);
  }
  node.push(makeNode('GlobalAveragePool', [x], ['mean']), makeNode('Flatten', ['mean'], ['flat']));
  node.push(
    makeNode('Gemm', ['flat', weight('fc.weight', [1000, 512]), weight('fc.bias', [1000])], ['logits'], { transB: 1 }),
  );
  return makeModel({
    name: 'resnet18',
    node,
    initializer,
    input: [makeValue('input', ['batch', 3, 224, 224])],
    output: [makeValue('logits', ['batch', 1000])],
  });
}
