/** The models of `npm run bench -- train`, written node by node; train-torch.py has the same in PyTorch. */
import { seeded, type ModelProto } from '@commonweight/core';
import type { NodeProto, TensorProto } from '../../core/src/onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue, type Attributes } from '../../core/src/onnx/nodes.ts';
import { floatTensor, int64Tensor } from '../../core/src/onnx/tensor-data.ts';

const INT64 = 7;

/** Collects nodes and initial weights under made-up names. */
class Writer {
  readonly nodes: NodeProto[] = [];
  readonly initializers: TensorProto[] = [];
  readonly #random = seeded('bench');
  #count = 0;

  emit(opType: string, inputs: readonly string[], attributes: Attributes = {}): string {
    const output = `${opType.toLowerCase()}${++this.#count}`;
    this.nodes.push(makeNode(opType, inputs, [output], attributes));
    return output;
  }

  /** Uniform numbers whose spread fits `fanIn` numbers that are summed. */
  weight(shape: readonly number[], fanIn: number): string {
    const limit = Math.sqrt(3 / fanIn);
    const length = shape.reduce((product, size) => product * size, 1);
    return this.#keep(
      shape,
      Float32Array.from({ length }, () => (2 * this.#random.uniform() - 1) * limit),
    );
  }

  filled(length: number, value: number): string {
    return this.#keep([length], new Float32Array(length).fill(value));
  }

  scalar(value: number): string {
    return this.#keep([], Float32Array.of(value));
  }

  integers(values: readonly number[]): string {
    const tensor = int64Tensor(`integers${++this.#count}`, values);
    this.initializers.push(tensor);
    return tensor.name;
  }

  #keep(shape: readonly number[], values: Float32Array): string {
    const name = `weight${++this.#count}`;
    this.initializers.push(floatTensor(name, shape, values));
    return name;
  }
}

/**
 * ResNet-18 (He et al. 2016) for ten classes, BatchNorm in training mode; input `[batch, 3, 32, 32]`. `small` has the stem that is usual for
 * small images: one 3×3 convolution, and no pooling.
 */
export function resnet18({ small = false }: { small?: boolean } = {}): ModelProto {
  const at = new Writer();
  const conv = (x: string, from: number, to: number, kernel: number, stride: number): string => {
    const pad = Math.floor(kernel / 2);
    const attributes = { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad] };
    return at.emit('Conv', [x, at.weight([to, from, kernel, kernel], from * kernel * kernel)], attributes);
  };
  const norm = (x: string, channels: number): string => {
    const [scale, bias, mean, variance] = [1, 0, 0, 1].map((value) => at.filled(channels, value)) as [
      string,
      string,
      string,
      string,
    ];
    const output = `norm.${x}`;
    const outputs = [output, `${mean}.next`, `${variance}.next`];
    at.nodes.push(makeNode('BatchNormalization', [x, scale, bias, mean, variance], outputs, { training_mode: 1 }));
    return output;
  };
  const relu = (x: string): string => at.emit('Relu', [x]);
  let x = relu(norm(small ? conv('input', 3, 64, 3, 1) : conv('input', 3, 64, 7, 2), 64));
  if (!small) x = at.emit('MaxPool', [x], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
  let channels = 64;
  for (const [stage, width] of [64, 128, 256, 512].entries()) {
    for (let block = 0; block < 2; block++) {
      const stride = stage > 0 && block === 0 ? 2 : 1;
      const first = relu(norm(conv(x, channels, width, 3, stride), width));
      const second = norm(conv(first, width, width, 3, 1), width);
      const skip = stride === 1 ? x : norm(conv(x, channels, width, 1, stride), width);
      x = relu(at.emit('Add', [second, skip]));
      channels = width;
    }
  }
  const pooled = at.emit('Flatten', [at.emit('GlobalAveragePool', [x])], { axis: 1 });
  at.nodes.push(makeNode('Gemm', [pooled, at.weight([512, 10], 512), at.filled(10, 0)], ['logits']));
  return modelOf(at, 'resnet18', makeValue('input', ['batch', 3, 32, 32]));
}

/** A transformer encoder over 64 tokens of 1,000: 2 layers of width 128 with 4 heads, GELU, and the mean of the positions at its end. */
export function transformer2(): ModelProto {
  const at = new Writer();
  const [width, tokens, heads, layers] = [128, 64, 4, 2];
  const linear = (x: string, from: number, to: number): string =>
    at.emit('Add', [at.emit('MatMul', [x, at.weight([from, to], from)]), at.filled(to, 0)]);
  const norm = (x: string): string =>
    at.emit('LayerNormalization', [x, at.filled(width, 1), at.filled(width, 0)], { axis: -1 });
  const gelu = (x: string): string => {
    const erf = at.emit('Erf', [at.emit('Div', [x, at.scalar(Math.SQRT2)])]);
    return at.emit('Mul', [at.emit('Mul', [x, at.emit('Add', [erf, at.scalar(1)])]), at.scalar(0.5)]);
  };
  const embedded = at.emit('Gather', [at.weight([1000, width], 3), 'input']);
  let x = at.emit('Add', [embedded, at.weight([tokens, width], 7500)]);
  for (let layer = 0; layer < layers; layer++) {
    const before = norm(x);
    const head = (perm: number[]): string => {
      const split = at.integers([0, tokens, heads, width / heads]);
      return at.emit('Transpose', [at.emit('Reshape', [linear(before, width, width), split])], { perm });
    };
    const [query, key, content] = [head([0, 2, 1, 3]), head([0, 2, 3, 1]), head([0, 2, 1, 3])];
    const scores = at.emit('Mul', [at.emit('MatMul', [query, key]), at.scalar(1 / Math.sqrt(width / heads))]);
    const mixed = at.emit('MatMul', [at.emit('Softmax', [scores], { axis: -1 }), content]);
    const rows = at.emit('Transpose', [mixed], { perm: [0, 2, 1, 3] });
    const joined = at.emit('Reshape', [rows, at.integers([0, tokens, width])]);
    x = at.emit('Add', [x, linear(joined, width, width)]);
    x = at.emit('Add', [x, linear(gelu(linear(norm(x), width, 4 * width)), 4 * width, width)]);
  }
  const mean = at.emit('ReduceMean', [norm(x)], { axes: [1], keepdims: 0 });
  at.nodes.push(makeNode('Gemm', [mean, at.weight([width, 10], width), at.filled(10, 0)], ['logits']));
  return modelOf(at, 'transformer', makeValue('input', ['batch', tokens], INT64));
}

function modelOf(at: Writer, name: string, input: ReturnType<typeof makeValue>): ModelProto {
  return makeModel({
    name,
    node: at.nodes,
    initializer: at.initializers,
    input: [input],
    output: [makeValue('logits', ['batch', 10])],
  });
}
