import { withPreprocess, type ModelProto } from '@commonweight/core';
import { readOnnx, understood } from './read-onnx.ts';

/** The model with the graph of a file in front of it. Throws UsageError where the two do not fit. */
export async function behind(file: string, model: ModelProto): Promise<ModelProto> {
  const front = await readOnnx(file);
  return understood(file, () => withPreprocess(model, front));
}
