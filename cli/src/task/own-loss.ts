import { LOSS_GRAPH_BYTES_MAX } from '@commonweight/core';
import { readFile } from 'node:fs/promises';
import { UsageError } from '../output/failure.ts';

/** A loss that is given as an ONNX file, as a plan has it. */
export async function ownLoss(file: string | undefined): Promise<{ lossGraph?: string }> {
  if (file === undefined) return {};
  const bytes = await readFile(file);
  if (bytes.length > LOSS_GRAPH_BYTES_MAX) {
    throw new UsageError(
      `${file} has ${bytes.length} bytes, and a loss travels with each assignment: up to ${LOSS_GRAPH_BYTES_MAX} are taken`,
    );
  }
  return { lossGraph: bytes.toString('base64') };
}
