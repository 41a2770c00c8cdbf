import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cnn, dimsOf, readModel, writeModel } from '@commonweight/core';
import type { InferenceSession } from 'onnxruntime-node';

/** The layout's domain, and the one of what the runtime writes. */
const DOMAIN = 'com.microsoft.nchwc';

/**
 * How many channels ONNX Runtime's CPU provider puts into a block on this processor, as it says itself: it is given a convolution of one
 * filter with constant weights, and the model that it makes of it has as many filters as fill a block. Undefined where it lays nothing out
 * in blocks, and where it cannot say so for want of a folder to write to: steps are then slower, and no other.
 */
export async function blockSize(create: (typeof InferenceSession)['create']): Promise<number | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'commonweight-blocks-')).catch(() => undefined);
  if (folder === undefined) return undefined;
  try {
    const path = join(folder, 'optimised.onnx');
    const model = cnn({ height: 4, width: 4, filters: [1], kernel: 1, dense: 1, outputs: 1, seed: 1 });
    const session = await create(writeModel(model), {
      optimizedModelFilePath: path,
      graphOptimizationLevel: 'all',
      intraOpNumThreads: 1,
      interOpNumThreads: 1,
      logSeverityLevel: 4,
    });
    await session.release();
    const { graph } = readModel(await readFile(path));
    const blocked = graph?.node.find(({ opType, domain }) => opType === 'Conv' && domain === DOMAIN);
    const weights = graph?.initializer.find(({ name }) => name === blocked?.input[1]);
    return weights === undefined ? undefined : dimsOf(weights)[0];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
