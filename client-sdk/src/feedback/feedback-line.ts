/**
 * One labelled example as a line of text: a JSON array of a checksum and the example, whose text the checksum is of. It is what
 * `commonweight agent --data feedback:FOLDER` reads.
 */
import type { ElementType, Feeds, TensorData, TypedArray, TypedTensor } from '../runtime/tensor.ts';
import { crc32 } from '../platform/crc32.ts';

export interface LabelledExample {
  model: string;
  /** The version that predicted, and what it said, where outputs are of classes. */
  version: number;
  guess: number | undefined;
  /** What would have been right. */
  label: number;
  atMs: number;
  inputs: Feeds;
}

/** A line that is damaged, or of another format. */
export class FeedbackLineError extends Error {
  override name = 'FeedbackLineError';
}

const ARRAYS: Readonly<Record<Exclude<ElementType, 'string'>, new (buffer: ArrayBuffer) => TypedArray>> = {
  float32: Float32Array,
  float64: Float64Array,
  // Apps have halves as floats.
  float16: Float32Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
};

export function lineOf({ inputs, ...example }: LabelledExample): string {
  const tensors = Object.entries(inputs).map(([name, { type, data, dims }]) => {
    return [name, { type, dims, data: textOf(data) }];
  });
  const text = JSON.stringify({ ...example, inputs: Object.fromEntries(tensors) as unknown });
  return `["${crc32(new TextEncoder().encode(text))}",${text}]`;
}

/** Throws FeedbackLineError. */
export function exampleIn(line: string): LabelledExample {
  const [, sum, text = ''] = /^\["([0-9a-f]{8})",(\{.*\})\]$/.exec(line) ?? [];
  if (sum === undefined) throw new FeedbackLineError('it is no feedback');
  if (crc32(new TextEncoder().encode(text)) !== sum) throw new FeedbackLineError('its checksum is wrong');
  const { inputs, ...example } = JSON.parse(text) as Omit<LabelledExample, 'inputs'> & {
    inputs: Record<string, { type: ElementType; dims: number[]; data: string | string[] }>;
  };
  const tensors = Object.entries(inputs).map(([name, { type, dims, data }]): [string, TypedTensor] => {
    return [name, { type, dims, data: valuesIn(type, data) }];
  });
  return { ...example, guess: example.guess, inputs: Object.fromEntries(tensors) };
}

/** Numbers by their bytes, in base64; texts as they are. */
function textOf(data: TensorData): string | string[] {
  if (!ArrayBuffer.isView(data)) return data;
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64');
}

function valuesIn(type: ElementType, data: string | string[]): TensorData {
  if (type === 'string' || typeof data !== 'string') return [...data];
  return new ARRAYS[type](Uint8Array.from(Buffer.from(data, 'base64')).buffer);
}
