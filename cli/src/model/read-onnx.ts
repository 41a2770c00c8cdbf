import { OnnxError, readModel, type ModelProto } from '@commonweight/core';
import { readFile } from 'node:fs/promises';
import { UsageError } from '../output/failure.ts';

/** An ONNX file. Throws UsageError naming the file where it is none that is understood. */
export async function readOnnx(file: string): Promise<ModelProto> {
  const read = await readFile(file);
  return understood(file, () => readModel(read));
}

/** What is done with a file; what is wrong with the file is the user's to mend. */
export function understood<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (!(cause instanceof OnnxError)) throw cause;
    throw new UsageError(`${file}: ${cause.message}`, { cause });
  }
}
