import { OnnxError } from './errors.ts';
import type { NodeProto } from './gen/onnx/onnx_pb.ts';

/** Inputs that an operator cannot do without, where that is not one. Source: the operators' schemas of ONNX 1.19. */
const inputsMin: Readonly<Record<string, number>> = {
  ...Object.fromEntries(['Constant', 'RandomNormal', 'RandomUniform'].map((name) => [name, 0])),
  ...Object.fromEntries(
    [
      ...['Add', 'And', 'BiasGelu', 'CastLike', 'Conv', 'ConvTranspose', 'CumProd', 'CumSum', 'Div', 'Equal', 'Expand'],
      ...['Gather', 'GatherElements', 'GatherND', 'Gemm', 'Greater', 'GreaterOrEqual', 'LayerNormalization', 'Less'],
      ...[
        'LessOrEqual',
        'MatMul',
        'MaxUnpool',
        'Mod',
        'Mul',
        'Or',
        'PRelu',
        'Pad',
        'Pow',
        'RMSNormalization',
        'Reshape',
      ],
      ...['SimplifiedLayerNormalization', 'Sub', 'Tile', 'TopK', 'Unsqueeze', 'Xor'],
    ].map((name) => [name, 2]),
  ),
  ...Object.fromEntries(
    [
      ...['Attention', 'GRU', 'GroupNormalization', 'InstanceNormalization', 'LSTM', 'OneHot', 'RNN', 'Range'],
      ...['RotaryEmbedding', 'ScatterElements', 'ScatterND', 'SkipLayerNormalization', 'Slice', 'Where'],
    ].map((name) => [name, 3]),
  ),
  BatchNormalization: 5,
};

/** Throws OnnxError where a node lacks an input that it cannot do without, or gives nothing. */
export function requireInputs({ name, opType, input, output }: NodeProto): void {
  const least = Object.hasOwn(inputsMin, opType) ? inputsMin[opType]! : 1;
  for (let position = 0; position < least; position++) {
    if ((input[position] ?? '') !== '') continue;
    throw new OnnxError(`node '${name}' (${opType}) lacks its input ${position}; export the model again`);
  }
  if (output.length === 0) throw new OnnxError(`node '${name}' (${opType}) has no output; export the model again`);
}
