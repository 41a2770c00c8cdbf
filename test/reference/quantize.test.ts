/** Agreement with onnxruntime's own quantization tool; `quantize/make-vectors.py` says how the vectors were made. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { calibrationGraph, Calibrator, decibels, quantizeModel, readModel, type ModelProto } from '@commonweight/core';
import { describe, expect, test } from 'vitest';
import { quantizeDynamic } from '../../core/src/quantize/dynamic.ts';
import { quantizeBlocks } from '../../core/src/quantize/blocks.ts';
import { intAttribute } from '../../core/src/onnx/nodes.ts';
import { floatValues } from '../../core/src/onnx/tensor-data.ts';
import type { TensorProto } from '../../core/src/onnx/gen/onnx/onnx_pb.ts';
import { outputsOf } from '../support/digit-models.ts';

interface Coded {
  codes: number[];
  scales: number[];
}

interface Vector {
  name: string;
  model: string;
  inputs: number[];
  dims: number[];
  exact: number[];
  forms: Record<
    string,
    {
      weights?: Record<string, Coded>;
      biases?: Record<string, Coded>;
      rounded?: Record<string, { scale: number; zero: number }>;
      /** Least and largest number by the tool's own calibration. */
      ranges?: Record<string, [number, number]>;
      blocks?: Coded[];
      outputs: number[];
    }
  >;
}

const FOLDER = join(import.meta.dirname, 'quantize');
const NAMES = ['dense', 'convolutions', 'residual', 'large-bias', 'transformer'];
const vectors = NAMES.map((name) => JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8')) as Vector);

const modelOf = ({ model }: Vector): ModelProto => readModel(Buffer.from(model, 'base64'));
const constantsOf = (model: ModelProto): Map<string, TensorProto> =>
  new Map(model.graph!.initializer.map((tensor) => [tensor.name, tensor]));
const signed = (tensor: TensorProto): number[] => [...new Int8Array(Uint8Array.from(tensor.rawData).buffer)];
const wholes = (tensor: TensorProto): number[] => [...new Int32Array(Uint8Array.from(tensor.rawData).buffer)];

async function calibrated(vector: Vector, activations: 'uint8' | 'int8'): Promise<ModelProto> {
  const graph = calibrationGraph(modelOf(vector));
  const calibrator = new Calibrator(graph.values);
  const inputs = Float32Array.from(vector.inputs);
  calibrator.add(new Map([...(await outputsOf(graph.model, inputs.slice(), vector.dims)), ['input', inputs]]));
  return quantizeModel(modelOf(vector), 'static-int8', { ranges: calibrator.ranges(), activations }).model;
}

/** Signal to the difference between two lists, in decibels. */
function closeness(exact: readonly number[], other: ArrayLike<number>): number {
  let [signal, noise] = [0, 0];
  exact.forEach((value, index) => {
    signal += value ** 2;
    noise += (value - other[index]!) ** 2;
  });
  return decibels(signal, noise);
}

/** Codes of the matrix itself; behind the last row of a column a block is filled with what nobody reads. */
function withoutPadding(bytes: readonly number[], rows: number, bits: 4 | 8): number[] {
  const codes = bits === 8 ? bytes : bytes.flatMap((byte) => [byte & 15, byte >> 4]);
  return codes.filter((_, index) => index % (Math.ceil(rows / 16) * 16) < rows);
}

const outputs = async (model: ModelProto, { inputs, dims }: Vector): Promise<Float32Array> =>
  (await outputsOf(model, Float32Array.from(inputs), dims)).get('output')!;

/** The models of which the tool made this form. */
const having = (form: string): [string, Vector][] =>
  vectors.filter(({ forms }) => form in forms).map((vector) => [vector.name, vector]);

test.each(having('dynamic-int8'))('%s, dynamic: the same codes and scales, and the same outputs', async (_, vector) => {
  const dynamic = vector.forms['dynamic-int8'];
  const { model } = quantizeDynamic(modelOf(vector));
  const constants = constantsOf(model);
  for (const [name, { codes, scales }] of Object.entries(dynamic!.weights!)) {
    const ours = constants.get(`${name}_codes`);
    // The tool quantizes per channel what is a matrix; convolutions stay as they are in this form.
    if (ours === undefined) continue;
    expect(signed(ours)).toEqual(codes);
    expect([...floatValues(constants.get(`${name}_scales`)!)]).toEqual(scales);
  }
  expect(closeness(dynamic!.outputs, await outputs(model, vector))).toBeGreaterThan(90);
});

describe.each(['uint8', 'int8'] as const)('static with %s', (type) => {
  test.each(having(`static-int8 ${type}`))(
    '%s: of the same ranges the same codes and scales of weights, biases and activations',
    (_, vector) => {
      const theirs = vector.forms[`static-int8 ${type}`]!;
      const ranges = new Map(Object.entries(theirs.ranges!).map(([name, [min, max]]) => [name, { min, max }]));
      const { model } = quantizeModel(modelOf(vector), 'static-int8', { ranges, activations: type });
      const constants = constantsOf(model);
      const isWidened = (channel: number): boolean => vector.name === 'large bias' && channel % 2 === 1;
      let compared = 0;
      for (const { opType, input, output } of modelOf(vector).graph!.node) {
        const weight = theirs.weights![input[1] ?? ''];
        if (!['Conv', 'MatMul', 'Gemm'].includes(opType) || weight === undefined) continue;
        const part = (name: string): TensorProto => constants.get(`${output[0]}_${name}`)!;
        const [codes, scales] = [signed(part('weight_codes')), [...floatValues(part('weight_scales'))]];
        const bias = theirs.biases![input[2] ?? ''];
        const perChannel = codes.length / scales.length;
        scales.forEach((scale, channel) => {
          if (isWidened(channel) && opType === 'Conv') {
            // Both widen the scale of a channel whose bias would not fit: the tool until its code fills an int32, ours until it
            // fills half of one, so that the sum of the products, which is added to it, cannot leave the other half.
            expect(Math.abs(bias!.codes[channel]!)).toBeGreaterThan(2 ** 31 * 0.999);
            expect(Math.abs(wholes(part('bias_codes'))[channel]!) / 2 ** 30).toBeCloseTo(1, 5);
            return;
          }
          expect(scale).toBe(weight.scales[channel]);
          compared += 1;
          if (bias === undefined) return;
          expect(floatValues(part('bias_scales'))[channel]).toBe(bias.scales[channel]);
          expect(wholes(part('bias_codes'))[channel]).toBe(bias.codes[channel]);
        });
        const isConv = opType === 'Conv';
        codes.forEach((code, index) => {
          const channel = isConv ? Math.floor(index / perChannel) : index % scales.length;
          if (!isConv || !isWidened(channel)) expect(code).toBe(weight.codes[index]);
        });
      }
      expect(compared).toBeGreaterThan(4);
      expect(
        comparedActivations(model, theirs.rounded!, type, (ours, other) => expect(ours).toBe(other)),
      ).toBeGreaterThan(1);
    },
  );

  test.each(having(`static-int8 ${type}`))('%s: of the same inputs the same ranges', async (_, vector) => {
    const theirs = vector.forms[`static-int8 ${type}`]!;
    const model = await calibrated(vector, type);
    // Another build of the runtime sums in another order, so a range may differ in its last bits.
    const near = (ours: number, other: number): void => expect(ours / other).toBeCloseTo(1, 6);
    expect(comparedActivations(model, theirs.rounded!, type, near)).toBeGreaterThan(1);
    // The tool also rounds what leaves the model, and in a transformer the products of attention, the sums, the norms and the
    // biases, of which no runtime is faster on a CPU. Ours keeps all these, so it is at least as close to the float model.
    const ours = closeness(vector.exact, await outputs(model, vector));
    // The outputs of the model with large biases hardly vary, so there the rounding of the tool happens to undo an error.
    expect(ours).toBeGreaterThan(vector.name === 'large bias' ? 35 : closeness(vector.exact, theirs.outputs) - 1);
  });
});

/** Compares scale and zero point of each value that both round, and answers how many those are. */
function comparedActivations(
  model: ModelProto,
  theirs: Record<string, { scale: number; zero: number }>,
  type: 'uint8' | 'int8',
  compare: (ours: number, other: number) => void,
): number {
  const constants = constantsOf(model);
  let shared = 0;
  for (const { opType, input } of model.graph!.node) {
    const other = theirs[input[0]!.replace(/_exact$/, '')];
    if (opType !== 'QuantizeLinear' || other === undefined) continue;
    shared += 1;
    compare(floatValues(constants.get(input[1]!)!)[0]!, other.scale);
    const zero = constants.get(input[2]!)!;
    expect(type === 'int8' ? signed(zero)[0] : zero.rawData[0]).toBe(other.zero);
  }
  return shared;
}

describe.each([4, 8] as const)('blocks of %d bits', (bits) => {
  test.each(having(`int${bits}-blocks`))('%s: the same codes and scales', async (_, vector) => {
    const theirs = vector.forms[`int${bits}-blocks`]!;
    const { model } = quantizeBlocks(modelOf(vector), { bits, blockSize: 16, accuracyLevel: 1 });
    const constants = constantsOf(model);
    const nodes = model.graph!.node.filter(({ opType }) => opType === 'MatMulNBits');
    expect(nodes.length).toBe(theirs.blocks!.length);
    nodes.forEach((node, index) => {
      const { input } = node;
      const { codes, scales } = theirs.blocks![index]!;
      const rows = intAttribute(node, 'K', 0);
      const ours = [...constants.get(input[1]!)!.rawData];
      expect(withoutPadding(ours, rows, bits)).toEqual(withoutPadding(codes, rows, bits));
      expect([...floatValues(constants.get(input[2]!)!)]).toEqual(scales);
    });
    expect(closeness(theirs.outputs, await outputs(model, vector))).toBeGreaterThan(90);
  });
});
