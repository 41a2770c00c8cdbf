import { create } from '@bufbuild/protobuf';
import { encodings, encodeWithFeedback, invariant, localMethodOf, pack, parsePlan, seeded } from '@commonweight/core';
import {
  formatFromWire,
  gridFromWire,
  headerDigest,
  UpdateHeaderSchema,
  updateId,
  type Assignment,
  type FormatOnWire,
  type UpdateHeader,
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

/** An update of whole numbers that each count once: what an agent measured or counted. */
export async function makeReport(input: {
  sha256: Sha256;
  agentId: string;
  assignment: Pick<Assignment, 'task' | 'round' | 'encoding' | 'grid' | 'invitation'>;
  baseVersion: number;
  report: Float32Array;
}): Promise<OutboxEntry> {
  const { sha256, agentId, assignment, baseVersion, report } = input;
  invariant(assignment.grid !== undefined, 'an assignment is checked before it is worked on');
  const grid = gridFromWire(assignment.grid);
  // On a grid of whole numbers nothing is rounded.
  const payload = encodings.float32.encode(report, grid, seeded('never drawn from'));
  const header = await headerOf({
    sha256,
    agentId,
    assignment,
    baseVersion,
    payload,
    rawSize: 0,
    weight: 1,
    metrics: {},
  });
  return { header, payload };
}

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
  const sent =
    format.compression === 'zstd' && deflate !== undefined
      ? deflate(encoded.payload)
      : { payload: encoded.payload, rawSize: 0 };
  const weight = Math.min(result.examples, grid.weightMax);
  const metrics = { loss: result.loss, trainMs: result.ms, ...result.metrics };
  const header = await headerOf({ sha256, agentId, assignment, baseVersion, ...sent, weight, metrics });
  return { header, payload: sent.payload, residual: encoded.residual };
}

async function headerOf(input: {
  sha256: Sha256;
  agentId: string;
  assignment: Pick<Assignment, 'task' | 'round' | 'encoding' | 'invitation'>;
  baseVersion: number;
  payload: Uint8Array;
  rawSize: number;
  weight: number;
  metrics: Record<string, number>;
}): Promise<UpdateHeader> {
  const { sha256, agentId, assignment, baseVersion, payload, rawSize, weight, metrics } = input;
  const { encoding, invitation, round, task } = assignment;
  const payloadDigest = await sha256(payload);
  const header = create(UpdateHeaderSchema, {
    updateId: await updateId({ agentId, task, round: Number(round), baseVersion, payloadDigest }, sha256),
    agentId,
    task,
    round,
    baseVersion: BigInt(baseVersion),
    encoding,
    weight: BigInt(weight),
    payloadDigest,
    payloadSize: BigInt(payload.length),
    rawSize: BigInt(rawSize),
    metrics,
    invitation,
  });
  header.headerDigest = await headerDigest(header, sha256);
  return header;
}
