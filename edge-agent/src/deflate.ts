import { constants, zstdCompressSync } from 'node:zlib';

/** Levels above the first are slower and hardly smaller here: what is left of an update is noise to all but its entropy. */
const LEVEL = 1;
/** What is saved has to be worth the time that the coordinator takes to undo it. */
const SHARE_MAX = 0.98;

/** A payload as it is sent. */
export interface SentPayload {
  payload: Uint8Array;
  /** Bytes before compression; 0 where it is not compressed. */
  rawSize: number;
}

/** Compresses a payload where that pays; browsers have no zstd and send it as it is. */
export type Deflate = (payload: Uint8Array) => SentPayload;

/** By the zstd that Node has. */
export const deflated: Deflate = (payload) => {
  const smaller = zstdCompressSync(payload, { params: { [constants.ZSTD_c_compressionLevel]: LEVEL } });
  const pays = smaller.length <= SHARE_MAX * payload.length;
  return pays ? { payload: new Uint8Array(smaller), rawSize: payload.length } : { payload, rawSize: 0 };
};
