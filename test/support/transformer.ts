import { seeded, type ModelProto } from '@commonweight/core';
import type { NodeProto, TensorProto } from '../../core/src/onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue, type Attributes } from '../../core/src/onnx/nodes.ts';
import { floatTensor, int64Tensor } from '../../core/src/onnx/tensor-data.ts';

export interface TransformerOptions {
  tokens: number;
  tokenSize: number;
  width: number;
  heads: number;
  layers: number;
  seed: number;
}

/** A transformer encoder with random weights; input `[batch, tokens, tokenSize]`, output `features` `[batch, tokens * width]`. */
export function transformer({ tokens, tokenSize, width, heads, layers, seed }: TransformerOptions): ModelProto {
  const random = seeded(seed);
  const node: NodeProto[] = [];
  const initializer: TensorProto[] = [];
  const emit = (opType: string, inputs: string[], output: string, attributes: Attributes = {}): string => {
    node.push(makeNode(opType, inputs, [output], attributes));
    return output;
  };
  const constant = (tensor: TensorProto): string => {
    initializer.push(tensor);
    return tensor.name;
  };
  const linear = (name: string, input: string, from: number, to: number): string => {
    const values = Float32Array.from({ length: from * to }, () => random.normal() / Math.sqrt(from));
    const product = emit(
      'MatMul',
      [input, constant(floatTensor(`${name}.weight`, [from, to], values))],
      `${name}.product`,
    );
    return emit('Add', [product, constant(floatTensor(`${name}.bias`, [to], new Float32Array(to)))], name);
  };
  const norm = (name: string, input: string): string => {
    const gain = constant(floatTensor(`${name}.gain`, [width], new Float32Array(width).fill(1)));
    const shift = constant(floatTensor(`${name}.shift`, [width], new Float32Array(width)));
    return emit('LayerNormalization', [input, gain, shift], name);
  };
  const split = constant(int64Tensor('split', [0, tokens, heads, width / heads]));
  const join = constant(int64Tensor('join', [0, tokens, width]));
  const scale = constant(floatTensor('scale', [], Float32Array.of(1 / Math.sqrt(width / heads))));
  let value = linear('embed', 'input', tokenSize, width);
  const places = Float32Array.from({ length: tokens * width }, () => random.normal());
  value = emit('Add', [value, constant(floatTensor('places', [tokens, width], places))], 'placed');
  for (let layer = 0; layer < layers; layer++) {
    const name = `layer${layer}`;
    const before = norm(`${name}.norm1`, value);
    const head = (part: string, perm: number[]): string => {
      const parted = emit('Reshape', [linear(`${name}.${part}`, before, width, width), split], `${name}.${part}.split`);
      return emit('Transpose', [parted], `${name}.${part}.heads`, { perm });
    };
    const [query, key, content] = [head('q', [0, 2, 1, 3]), head('k', [0, 2, 3, 1]), head('v', [0, 2, 1, 3])];
    const scores = emit('Mul', [emit('MatMul', [query, key], `${name}.scores`), scale], `${name}.scaled`);
    const mixed = emit('MatMul', [emit('Softmax', [scores], `${name}.shares`), content], `${name}.mixed`);
    const rows = emit('Transpose', [mixed], `${name}.rows`, { perm: [0, 2, 1, 3] });
    const joined = emit('Reshape', [rows, join], `${name}.joined`);
    value = emit('Add', [value, linear(`${name}.out`, joined, width, width)], `${name}.attended`);
    const wide = linear(`${name}.up`, norm(`${name}.norm2`, value), width, 4 * width);
    const down = linear(`${name}.down`, emit('Relu', [wide], `${name}.active`), 4 * width, width);
    value = emit('Add', [value, down], `${name}.done`);
  }
  emit('Flatten', [norm('last', value)], 'features', { axis: 1 });
  return makeModel({
    name: 'transformer',
    node,
    initializer,
    input: [makeValue('input', ['batch', tokens, tokenSize])],
    output: [makeValue('features', ['batch', tokens * width])],
  });
}
