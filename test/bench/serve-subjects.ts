/** The models of `npm run bench -- serve`, from one that runs in a tenth of a millisecond to one that takes over ten, and what is asked of each. */
import { fedAvgCnn, mlp, type ModelProto } from '@commonweight/core';
import * as ort from 'onnxruntime-node';
import { resnet18, transformer2 } from './train-models.ts';

export interface Subject {
  model: ModelProto;
  /** Of one row. */
  dims: readonly number[];
  datatype: 'FP32' | 'INT64';
}

/** By the name that figures have. */
export const subjects: Readonly<Record<string, () => Subject>> = {
  mlp: () => ({
    model: mlp({ inputs: 784, hidden: [1024, 1024], outputs: 10, seed: 1 }),
    dims: [784],
    datatype: 'FP32',
  }),
  cnn: () => ({ model: fedAvgCnn(1), dims: [1, 28, 28], datatype: 'FP32' }),
  transformer: () => ({ model: transformer2(), dims: [64], datatype: 'INT64' }),
  resnet: () => ({ model: forInference(resnet18({ small: true })), dims: [3, 32, 32], datatype: 'FP32' }),
};

/** A model that normalizes by what it learned, not by the rows that come together. */
function forInference(model: ModelProto): ModelProto {
  const { graph } = model;
  const node = graph!.node.map((one) =>
    one.opType === 'BatchNormalization' ? { ...one, output: one.output.slice(0, 1), attribute: [] } : one,
  );
  return { ...model, graph: { ...graph!, node } };
}

const sizeOf = ({ dims }: Subject): number => dims.reduce((size, dim) => size * dim, 1);

/** The values of `rows` equal rows. */
function valuesOf(subject: Subject, rows: number): Float32Array | BigInt64Array {
  const size = sizeOf(subject);
  const at = (index: number): number => index % size;
  return subject.datatype === 'INT64'
    ? BigInt64Array.from({ length: rows * size }, (_, index) => BigInt((7 * at(index)) % 1000))
    : Float32Array.from({ length: rows * size }, (_, index) => (at(index) % 7) / 7);
}

/** What a bare loop gives the runtime. */
export function feedsOf(subject: Subject, rows: number): Record<string, ort.Tensor> {
  const values = valuesOf(subject, rows);
  const dims = [rows, ...subject.dims];
  return {
    input:
      values instanceof BigInt64Array ? new ort.Tensor('int64', values, dims) : new ort.Tensor('float32', values, dims),
  };
}

/** One row to a model of that name over HTTP, as bytes behind JSON; in base64. */
export function requestOf(name: string, subject: Subject): string {
  const { buffer } = valuesOf(subject, 1);
  const data = Buffer.from(buffer);
  const { datatype, dims } = subject;
  const parameters = { binary_data_size: data.length };
  const json = JSON.stringify({
    inputs: [{ name: 'input', datatype, shape: [1, ...dims], parameters }],
    parameters: { binary_data_output: true },
  });
  const head = [
    `POST /v2/models/${name}/infer HTTP/1.1`,
    'Host: 127.0.0.1',
    `Inference-Header-Content-Length: ${json.length}`,
    `Content-Length: ${json.length + data.length}`,
    '\r\n',
  ].join('\r\n');
  return Buffer.concat([Buffer.from(head), Buffer.from(json), data]).toString('base64');
}
