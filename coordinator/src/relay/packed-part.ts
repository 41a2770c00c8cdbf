import { promisify } from 'node:util';
import { zstdCompress, zstdCompressSync } from 'node:zlib';
import { create } from '@bufbuild/protobuf';
import { toPlanes } from '@commonweight/core';
import { PartHeaderSchema, type PartHeader, type UpdateHeader } from '@commonweight/proto';
import { isSmall } from '../driver/parts.ts';
import { sha256 } from '../registry/registry.ts';

/** A part as it goes over the wire. */
export interface PackedPart {
  header: PartHeader;
  updates: readonly UpdateHeader[];
  sum: Uint8Array;
}

const compressElsewhere = promisify(zstdCompress);

/** The sum of some updates of one round and base, ready to send. */
export async function packedPart(updates: readonly UpdateHeader[], sum: Uint8Array): Promise<PackedPart> {
  const [{ task, round, baseVersion }] = updates as [UpdateHeader];
  const planes = toPlanes(sum);
  const packed = isSmall(planes.length) ? zstdCompressSync(planes) : await compressElsewhere(planes);
  const header = create(PartHeaderSchema, {
    task,
    round,
    baseVersion,
    updates: updates.length,
    sumDigest: sha256(packed),
    sumSize: BigInt(packed.length),
  });
  return { header, updates, sum: packed };
}
