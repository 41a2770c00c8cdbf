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
      rounded?: Record<string, { scale: number; zero: number }>;
      blocks?: Coded[];
      outputs: number[];
    }
  >;
}

const { vectors } = JSON.parse(readFileSync(join(import.meta.dirname, 'quantize', 'vectors.json'), 'utf8')) as {
  vectors: Vector[];
};

const modelOf = ({ model }: Vector): ModelProto => readModel(Buffer.from(model, 'base64'));
const constantsOf = (model: ModelProto): Map<string, TensorProto> =>
  new Map(model.graph!.initializer.map((tensor) => [tensor.name, tensor]));
const signed = (tensor: TensorProto): number[] => [...new Int8Array(tensor.rawData.slice().buffer)];

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
  test.each(having(`static-int8 ${type}`))('%s: the same weights and the same scales', async (_, vector) => {
    const theirs = vector.forms[`static-int8 ${type}`]!;
    const model = await calibrated(vector, type);
    const constants = constantsOf(model);
    const codes = [...constants.values()].filter(({ dataType }) => dataType === 3).map(signed);
    for (const [name, weight] of Object.entries(theirs.weights!)) {
      if (!name.startsWith('w')) continue;
      expect(codes).toContainEqual(weight.codes);
    }
    let shared = 0;
    for (const { opType, input } of model.graph!.node) {
      const value = input[0]!.replace(/_exact$/, '');
      const other = theirs.rounded![value];
      if (opType !== 'QuantizeLinear' || other === undefined) continue;
      shared += 1;
      // Another build of the runtime sums in another order, so a range may differ in its last bits.
      expect(floatValues(constants.get(input[1]!)!)[0]! / other.scale).toBeCloseTo(1, 6);
      const zero = constants.get(input[2]!)!;
      expect(type === 'int8' ? signed(zero)[0] : zero.rawData[0]).toBe(other.zero);
    }
    expect(shared).toBeGreaterThan(1);
    // The tool also rounds what leaves the model; ours keeps that, so it is at least as close to the float model.
    const ours = closeness(vector.exact, await outputs(model, vector));
    expect(ours).toBeGreaterThan(closeness(vector.exact, theirs.outputs) - 1);
  });
});

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
