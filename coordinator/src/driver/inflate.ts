import { constants, zstdDecompressSync } from 'node:zlib';
import type { UpdateHeader } from '@commonweight/proto';

/** Memory that a frame may ask for besides its bytes: 8 MiB. Agents need 2. */
const WINDOW_LOG_MAX = 23;

/**
 * An update's payload as it was before it was compressed; undefined where it is none of the size that its header says. However it was
 * made, no more than that is written: a header that says too much is refused before there are bytes.
 */
export function inflated({ rawSize }: Pick<UpdateHeader, 'rawSize'>, payload: Uint8Array): Uint8Array | undefined {
  const size = Number(rawSize);
  if (size === 0) return payload;
  try {
    const raw = zstdDecompressSync(payload, {
      maxOutputLength: size,
      // One buffer, and no second one to put pieces together.
      chunkSize: Math.max(64, size),
      params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
    });
    return raw.length === size ? raw : undefined;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ERR_BUFFER_TOO_LARGE' || code.startsWith('Z')) return undefined;
    throw error;
  }
}
