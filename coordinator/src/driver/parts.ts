import { constants, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import { promisify } from 'node:util';
import { CodecError, ExactSum, fromPlanes, isSameGrid, sumBytes, type GridSpec } from '@commonweight/core';
import type { UpdateHeader } from '@commonweight/proto';
import { ServiceError } from '../service.ts';
import type { RoundKey } from '../store/shares.ts';
import type { ReceiptRecord } from '../store/store.ts';
import { properMetrics } from './counters.ts';
import type { Refusal } from './receipts.ts';
import type { FoldedSum } from './round-sum.ts';
import type { SharedRound, Taken } from './shared-round.ts';
import { hex, type Submission } from './task-work.ts';

/** Memory that a frame may ask for besides its bytes: 8 MiB, as of an update. */
const WINDOW_LOG_MAX = 23;

/** Whether a sum of so many bytes is compressed, or the reverse, in less time than it takes to hand it to another thread and back. */
export const isSmall = (bytes: number): boolean => bytes <= 16_384;

/** Updates that a relay folded, and their sum as it came over the wire. */
export interface Part {
  updates: readonly UpdateHeader[];
  packed: Uint8Array;
}

/** What became of the updates that keep a part from being taken, by id in hexadecimal; none where it was taken. */
export type PartRefusals = ReadonlyMap<string, Submission>;

/** How a round's updates are folded, so that another may fold some of them. */
export interface Folding {
  configJson: string;
  baseVersion: number;
  parameters: number;
}

/** A round that a part is to go into, in its task's turn. */
export interface PartRound {
  key: RoundKey;
  version: number;
  sum: FoldedSum;
  /** Undefined where the round takes no parts. */
  grid: GridSpec | undefined;
  shared: SharedRound | undefined;
  ended(updateId: Uint8Array): Promise<ReceiptRecord | undefined>;
  refusalOf(header: UpdateHeader): Refusal | undefined;
  refuse(header: UpdateHeader, refusal: Refusal): Promise<Submission>;
}

/**
 * Adds a part to a round's sum, all of it or nothing: each update is judged by its header as if it had come alone, and claimed. Throws
 * ServiceError where the bytes are no sum of these updates.
 */
export async function takePart({ updates, packed }: Part, round: PartRound): Promise<PartRefusals> {
  const refused = await refusedBy(updates, round);
  if (refused.size > 0) return refused;
  const { grid, key, shared, sum, version } = round;
  if (grid === undefined) throw noPart(`${key.task} takes each update by itself`);
  const taken = new Map(
    updates.map((header) => {
      const { agentId, metrics, updateId } = header;
      return [hex(updateId), { agentId, weight: sum.weigh(header, version), metrics: properMetrics(metrics) }] as const;
    }),
  );
  const bytes = await unpacked(packed, sum.length);
  requireSumOf(taken, bytes, { length: sum.length, grid });
  for (const [id, refusal] of (await shared?.claimAll(key, taken)) ?? []) {
    const header = updates.find(({ updateId }) => hex(updateId) === id)!;
    refused.set(id, await round.refuse(header, refusal));
  }
  if (refused.size === 0) sum.addPart(bytes, taken);
  return refused;
}

async function refusedBy(updates: readonly UpdateHeader[], round: PartRound): Promise<Map<string, Submission>> {
  const refused = new Map<string, Submission>();
  for (const header of updates) {
    const ended = await round.ended(header.updateId);
    const refusal = ended === undefined ? round.refusalOf(header) : undefined;
    if (ended !== undefined) refused.set(hex(header.updateId), { ended });
    else if (refusal !== undefined) refused.set(hex(header.updateId), await round.refuse(header, refusal));
  }
  return refused;
}

/** The sum's bytes; however they were made, no more is written than a sum of this length has. */
async function unpacked(packed: Uint8Array, length: number): Promise<Uint8Array> {
  const size = sumBytes(length);
  const options = {
    maxOutputLength: size,
    chunkSize: Math.max(64, size),
    params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
  };
  const inflated = async (): Promise<Uint8Array> =>
    // What a relay sent may be large and come to nothing.
    isSmall(Math.max(size, packed.length)) ? zstdDecompressSync(packed, options) : inflateElsewhere(packed, options);
  const planes = await inflated().catch((error: unknown) => {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ERR_BUFFER_TOO_LARGE' || code.startsWith('Z')) return new Uint8Array();
    throw error;
  });
  if (planes.length !== size) throw noPart(`its bytes are not the sum of ${length} values`);
  return fromPlanes(planes);
}

const inflateElsewhere = promisify(zstdDecompress);

/** Throws ServiceError where bytes cannot be the sum of these updates. Whether they are, only who has the updates can say. */
function requireSumOf(
  taken: ReadonlyMap<string, Taken>,
  bytes: Uint8Array,
  { length, grid }: { length: number; grid: GridSpec },
): void {
  const sum = opened(bytes);
  const weight = [...taken.values()].reduce((total, one) => total + one.weight, 0);
  if (sum.length !== length || !isSameGrid(sum.grid, grid)) throw noPart('it is not on the grid of the round');
  if (sum.count !== taken.size) throw noPart(`it sums ${sum.count} updates and lists ${taken.size}`);
  if (sum.totalWeight !== weight) throw noPart(`its weight is ${sum.totalWeight}, and that of its updates ${weight}`);
  if (!sum.isWithinCaps) throw noPart('a value of it is larger than its updates together can have');
}

function opened(bytes: Uint8Array): ExactSum {
  try {
    return ExactSum.fromBytes(bytes);
  } catch (cause) {
    if (cause instanceof CodecError) throw noPart(cause.message, { cause });
    throw cause;
  }
}

const noPart = (why: string, options?: ErrorOptions): ServiceError =>
  new ServiceError('invalid', `the part is refused: ${why}`, options);
