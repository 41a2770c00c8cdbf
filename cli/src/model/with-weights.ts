import { CodecError, withSafetensors, type ModelProto } from '@commonweight/core';
import { readFile } from 'node:fs/promises';
import { UsageError } from '../output/failure.ts';

/** The model with the weights of a safetensors file. Throws UsageError naming the file and the tensor that is lacking or does not fit. */
export async function withWeights(model: ModelProto, file: string): Promise<ModelProto> {
  const read = await readFile(file);
  try {
    return withSafetensors(model, read);
  } catch (cause) {
    if (!(cause instanceof CodecError)) throw cause;
    throw new UsageError(`${file}: ${cause.message}`, { cause });
  }
}
