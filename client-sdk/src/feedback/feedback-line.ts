/**
 * One labelled example as a line of text: a JSON array of a checksum and the example, whose text the checksum is of. It is what
 * `commonweight agent --data feedback:FOLDER` reads.
 */
import type { ElementType, Feeds, TypedArray, TypedTensor } from '../runtime/tensor.ts';
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

const ARRAYS: Readonly<Record<ElementType, new (buffer: ArrayBuffer) => TypedArray>> = {
  float32: Float32Array,
  float64: Float64Array,
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
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    return [name, { type, dims, data: bytes.toString('base64') }];
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
    inputs: Record<string, { type: ElementType; dims: number[]; data: string }>;
  };
  const tensors = Object.entries(inputs).map(([name, { type, dims, data }]): [string, TypedTensor] => {
    const bytes = Uint8Array.from(Buffer.from(data, 'base64'));
    return [name, { type, dims, data: new ARRAYS[type](bytes.buffer) }];
  });
  return { ...example, guess: example.guess, inputs: Object.fromEntries(tensors) };
}
