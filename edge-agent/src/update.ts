import { create } from '@bufbuild/protobuf';
import { encodings, encodeWithFeedback, invariant, localMethodOf, pack, parsePlan, seeded } from '@commonweight/core';
import {
  encodingFromWire,
  gridFromWire,
  headerDigest,
  UpdateHeaderSchema,
  updateId,
  type Assignment,
} from '@commonweight/proto';
import type { Sha256 } from '@commonweight/client-sdk';
import type { RoundOutcome } from './local-round.ts';
import type { OutboxEntry } from './outbox/outbox.ts';

/** An update, and what its encoding left over for the next one. */
export interface MadeUpdate extends OutboxEntry {
  residual: Float32Array;
}

/** What of an assignment an update depends on. */
export type UpdateAssignment = Pick<
  Assignment,
  'task' | 'round' | 'planJson' | 'encoding' | 'grid' | 'seed' | 'invitation'
>;

/** The update of a training, encoded on the round's grid. Throws RangeError where a number of it has no room there. */
export async function makeUpdate(input: {
  sha256: Sha256;
  agentId: string;
  assignment: UpdateAssignment;
  baseVersion: number;
  outcome: Pick<RoundOutcome, 'result' | 'parts'>;
  residual: Float32Array | undefined;
}): Promise<MadeUpdate> {
  const { sha256, agentId, assignment, baseVersion, outcome, residual } = input;
  const { result, parts } = outcome;
  const name = encodingFromWire(assignment.encoding);
  invariant(name !== undefined && assignment.grid !== undefined, 'an assignment is checked before it is trained');
  const grid = gridFromWire(assignment.grid);
  const { shape } = localMethodOf(parsePlan(JSON.parse(assignment.planJson)));
  const delta = pack(parts, shape, grid);
  const random = seeded(assignment.seed).fork('rounding');
  const encoded = encodeWithFeedback({ delta, residual, encoding: encodings[name], grid, random });
  const { payload } = encoded;
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
    metrics: { loss: result.loss, trainMs: result.ms, ...result.metrics },
    invitation: assignment.invitation,
  });
  header.headerDigest = await headerDigest(header, sha256);
  return { header, payload, residual: encoded.residual };
}
