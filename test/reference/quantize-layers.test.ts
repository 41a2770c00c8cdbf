/** Embedding tables and LSTMs against onnxruntime's own tool; `quantize/make-layers.py` says how the vectors were made. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decibels, quantizeModel, readModel, type ModelProto } from '@commonweight/core';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { floatValues } from '../../core/src/onnx/tensor-data.ts';
import type { TensorProto } from '../../core/src/onnx/gen/onnx/onnx_pb.ts';
import { openSession } from '../support/digit-models.ts';

interface Vector {
  model: string;
  inputs: number[];
  dims: number[];
  exact: number[];
  outputs: number[];
  weights?: Record<'w' | 'r', { codes: number[]; shape: number[]; scales: number[] }>;
  whole?: { scale: number; zero: number };
  rows?: { codes: number[]; scales: number[] };
}

const { vectors } = JSON.parse(readFileSync(join(import.meta.dirname, 'quantize', 'layers.json'), 'utf8')) as {
  vectors: Record<'gather' | 'lstm forward' | 'lstm bidirectional', Vector>;
};

const dynamicOf = ({ model }: Vector): ModelProto =>
  quantizeModel(readModel(Buffer.from(model, 'base64')), 'dynamic-int8').model;
const constant = (model: ModelProto, name: string): TensorProto =>
  model.graph!.initializer.find((tensor) => tensor.name === name)!;
const signed = (tensor: TensorProto): number[] => [...new Int8Array(Uint8Array.from(tensor.rawData).buffer)];

async function outputs(model: ModelProto, { inputs, dims }: Vector, type: 'float32' | 'int64'): Promise<Float32Array> {
  const data = type === 'int64' ? BigInt64Array.from(inputs, BigInt) : Float32Array.from(inputs);
  const results = await (await openSession(model)).run({ input: new ort.Tensor(type, data, dims) });
  return results['output']!.data as Float32Array;
}

function closeness(exact: readonly number[], other: ArrayLike<number>): number {
  const noise = exact.reduce((sum, value, index) => sum + (value - other[index]!) ** 2, 0);
  return decibels(
    exact.reduce((sum, value) => sum + value ** 2, 0),
    noise,
  );
}

test.each(['lstm forward', 'lstm bidirectional'] as const)(
  '%s: the same codes in the same order, the same scales, and the same outputs',
  async (name) => {
    const vector = vectors[name];
    const model = dynamicOf(vector);
    for (const weight of ['w', 'r'] as const) {
      const { codes, shape, scales } = vector.weights![weight];
      const ours = constant(model, `${weight}_codes`);
      expect(ours.dims.map(Number)).toEqual(shape);
      expect(signed(ours)).toEqual(codes);
      expect([...floatValues(constant(model, `${weight}_scales`))]).toEqual(scales);
    }
    // Each step rounds what the last one made: where builds of the runtime differ in a last bit, a code may be the next one.
    const ours = await outputs(model, vector, 'float32');
    expect(closeness(vector.outputs, ours)).toBeGreaterThan(50);
    expect(closeness(vector.exact, ours)).toBeGreaterThan(closeness(vector.exact, vector.outputs) - 1);
  },
);

test('an embedding table gets a scale per row, by the arithmetic of the tool, and is nearer than with its one scale', async () => {
  const vector = vectors.gather;
  const model = dynamicOf(vector);
  expect(signed(constant(model, 'table_row_codes'))).toEqual(vector.rows!.codes);
  expect([...floatValues(constant(model, 'table_row_scales'))]).toEqual(vector.rows!.scales);
  // The tool has one scale and zero point for the whole table, so that rare words with small rows come out as noise or
  // nothing. A scale per row costs four bytes a row and another Gather, and nothing in the products behind.
  expect(vector.whole!.scale).toBeGreaterThan(Math.max(...vector.rows!.scales) / 2);
  const [ours, theirs] = [
    closeness(vector.exact, await outputs(model, vector, 'int64')),
    closeness(vector.exact, vector.outputs),
  ];
  expect(ours).toBeGreaterThan(theirs + 3);
});
