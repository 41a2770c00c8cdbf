import { create } from '@bufbuild/protobuf';
import { encodings, encodeWithFeedback, invariant, seeded } from '@commonweight/core';
import { encodingFromWire, gridFromWire, UpdateHeaderSchema, updateId, type Assignment } from '@commonweight/proto';
import { readIfThere, sha256, writeAtomic } from '@commonweight/client-sdk';
import { weightsFromBytes, weightsToBytes } from '@commonweight/core';
import type { OutboxEntry } from './outbox/outbox.ts';
import type { TrainingResult } from './training/messages.ts';

/** An update, and what its encoding left over for the next one. */
export interface MadeUpdate extends OutboxEntry {
  residual: Float32Array;
}

/** The update of a training: trained minus base, encoded on the round's grid. */
export function makeUpdate(input: {
  agentId: string;
  assignment: Assignment;
  baseVersion: number;
  base: Float32Array;
  result: TrainingResult;
  residual: Float32Array | undefined;
}): MadeUpdate {
  const { agentId, assignment, baseVersion, base, result, residual } = input;
  const name = encodingFromWire(assignment.encoding);
  invariant(name !== undefined && assignment.grid !== undefined, 'an assignment is checked before it is trained');
  const grid = gridFromWire(assignment.grid);
  const delta = result.weights.map((weight, i) => weight - (base[i] ?? 0));
  const random = seeded(assignment.seed).fork('rounding');
  const encoded = encodeWithFeedback({ delta, residual, encoding: encodings[name], grid, random });
  const { payload } = encoded;
  const payloadDigest = sha256(payload);
  const { task } = assignment;
  const id = updateId({ agentId, task, round: Number(assignment.round), baseVersion, payloadDigest }, sha256);
  const header = create(UpdateHeaderSchema, {
    updateId: id,
    agentId,
    task,
    round: assignment.round,
    baseVersion: BigInt(baseVersion),
    encoding: assignment.encoding,
    weight: BigInt(Math.min(result.examples, grid.weightMax)),
    payloadDigest,
    payloadSize: BigInt(payload.length),
    metrics: { loss: result.loss, trainMs: result.ms },
  });
  return { header, payload, residual: encoded.residual };
}

/** What the last encoding of a task left over; a file of another length belongs to another model. */
export async function readResidual(path: string, length: number): Promise<Float32Array | undefined> {
  const bytes = await readIfThere(path);
  return bytes?.length === 4 * length ? weightsFromBytes(bytes) : undefined;
}

export const writeResidual = (path: string, residual: Float32Array): Promise<void> =>
  writeAtomic(path, weightsToBytes(residual));
