import { create } from '@bufbuild/protobuf';
import { encodeWithFeedback, invariant, localMethodOf, pack, parsePlan, seeded } from '@commonweight/core';
import {
  formatFromWire,
  gridFromWire,
  headerDigest,
  UpdateHeaderSchema,
  updateId,
  type Assignment,
  type FormatOnWire,
} from '@commonweight/proto';
import type { Sha256 } from '@commonweight/client-sdk';
import type { Deflate } from './deflate.ts';
import type { RoundOutcome } from './local-round.ts';
import type { OutboxEntry } from './outbox/outbox.ts';

/** An update, and what its encoding left over for the next one. */
export interface MadeUpdate extends OutboxEntry {
  residual: Float32Array;
}

/** What of an assignment an update depends on. */
export type UpdateAssignment = Pick<
  Assignment,
  'task' | 'round' | 'planJson' | 'grid' | 'seed' | 'invitation' | keyof FormatOnWire
>;

/** The update of a training, encoded on the round's grid. Throws RangeError where a number of it has no room there. */
export async function makeUpdate(input: {
  sha256: Sha256;
  deflate: Deflate | undefined;
  agentId: string;
  assignment: UpdateAssignment;
  baseVersion: number;
  outcome: Pick<RoundOutcome, 'result' | 'parts'>;
  residual: Float32Array | undefined;
}): Promise<MadeUpdate> {
  const { sha256, deflate, agentId, assignment, baseVersion, outcome, residual } = input;
  const { result, parts } = outcome;
  const format = formatFromWire(assignment);
  invariant(format !== undefined && assignment.grid !== undefined, 'an assignment is checked before it is trained');
  const grid = gridFromWire(assignment.grid);
  const { shape } = localMethodOf(parsePlan(JSON.parse(assignment.planJson)));
  const delta = pack(parts, shape, grid);
  const random = seeded(assignment.seed).fork('rounding');
  const encoded = encodeWithFeedback({ delta, residual, format, grid, random });
  const { payload, rawSize } =
    format.compression === 'zstd' && deflate !== undefined
      ? deflate(encoded.payload)
      : { payload: encoded.payload, rawSize: 0 };
  const payloadDigest = await sha256(payload);
  const { task } = assignment;
  const id = await updateId({ agentId, task, round: Number(assignment.round), baseVersion, payloadDigest }, sha256);
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
    rawSize: BigInt(rawSize),
    metrics: { loss: result.loss, trainMs: result.ms, ...result.metrics },
    invitation: assignment.invitation,
  });
  header.headerDigest = await headerDigest(header, sha256);
  return { header, payload, residual: encoded.residual };
}
