import { create } from '@bufbuild/protobuf';
import { encodings, type EncodingName, type GridSpec, type RandomStream } from '@commonweight/core';
import { sha256 } from '@commonweight/client-sdk';
import { encodingToWire, UpdateHeaderSchema, updateId, type UpdateHeader } from '@commonweight/proto';

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
  encoding: EncodingName;
  grid: GridSpec;
}

/** An update that must change nothing: misshapen, unbidden, stolen, stale, or with values that are none. */
export function badUpdate(
  random: RandomStream,
  { agents, length, encoding, grid, ...newest }: BadUpdateContext,
): { header: UpdateHeader; payload: Uint8Array; what: string } {
  const what = BAD[random.integer(BAD.length)]!;
  const payload = badPayload(what, random, { length, encoding, grid });
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
    encoding: encodingToWire(encoding),
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
  { length, encoding, grid }: Pick<BadUpdateContext, 'length' | 'encoding' | 'grid'>,
): Uint8Array {
  const payload = encodings[encoding].encode(new Float32Array(length).fill(2), grid, random);
  if (what === 'too long') return new Uint8Array(payload.length + 4);
  if (what !== 'NaN' && what !== 'too large') return payload;
  if (encoding === 'float32') new DataView(payload.buffer).setFloat32(4, what === 'NaN' ? Number.NaN : 1e30, true);
  else payload[0] = what === 'NaN' ? 0xff : 200;
  return payload;
}
