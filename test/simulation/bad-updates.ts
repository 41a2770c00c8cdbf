import { create } from '@bufbuild/protobuf';
import { encodeUpdate, encodings, type GridSpec, type RandomStream, type UpdateFormat } from '@commonweight/core';
import { sha256 } from '@commonweight/client-sdk';
import { formatToWire, UpdateHeaderSchema, updateId, type UpdateHeader } from '@commonweight/proto';

/** What is wrong with an update that must not count. */
const BAD = [
  'NaN',
  'too long',
  'too large',
  'uninvited',
  'old round',
  'other base',
  'stolen id',
  'weightless',
] as const;

/** What a bad update is made of, so that it is nearly a good one. */
export interface BadUpdateContext {
  agents: number;
  /** Values of an update. */
  length: number;
  round: number;
  version: number;
  format: UpdateFormat;
  grid: GridSpec;
}

/** An update that must change nothing: misshapen, unbidden, stolen, stale, or with values that are none. */
export function badUpdate(
  random: RandomStream,
  { agents, length, format, grid, ...newest }: BadUpdateContext,
): { header: UpdateHeader; payload: Uint8Array; what: string } {
  const what = BAD[random.integer(BAD.length)]!;
  const payload = badPayload(what, random, { length, format, grid });
  const agentId = what === 'uninvited' ? 'outsider' : `agent-${random.integer(agents)}`;
  const version = newest.version - (what === 'other base' ? 1 : 0);
  const round = Math.max(0, newest.round - (what === 'old round' ? 1 : 0));
  const payloadDigest = sha256(payload);
  const identity = { agentId, task: 'train', round, baseVersion: version, payloadDigest };
  const header = create(UpdateHeaderSchema, {
    updateId: what === 'stolen id' ? sha256(Uint8Array.of(random.integer(256))) : updateId(identity, sha256),
    agentId,
    task: 'train',
    round: BigInt(round),
    baseVersion: BigInt(version),
    encoding: formatToWire(format).encoding,
    weight: what === 'weightless' ? 0n : 1n,
    payloadDigest,
    payloadSize: BigInt(payload.length),
  });
  return { header, payload, what };
}

/** Twos, which no agent sends; or what is not even on the grid. */
function badPayload(
  what: (typeof BAD)[number],
  random: RandomStream,
  { length, format, grid }: Pick<BadUpdateContext, 'length' | 'format' | 'grid'>,
): Uint8Array {
  const { sends, values } = encodings[format.encoding];
  const payload = encodeUpdate(new Float32Array(length).fill(2), format, grid, random);
  // Longer than the largest that may be sent.
  if (what === 'too long') return new Uint8Array(4 * length + 100);
  if (what !== 'NaN' && what !== 'too large') return payload;
  // Of the largest alone, a table and a bitmap come first.
  const first = sends === 'largest' ? 4 + Math.ceil(length / 8) : 0;
  if (values === 'float32') new DataView(payload.buffer).setFloat32(first, what === 'NaN' ? Number.NaN : 1e30, true);
  else payload[first] = what === 'NaN' ? 0xff : 200;
  return payload;
}
