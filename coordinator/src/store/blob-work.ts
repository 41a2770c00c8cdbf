import { chunksOf } from './blob-chunks.ts';
import type { BlobRecord } from './store.ts';
import { statement, type Work } from './work.ts';

/** Puts a blob that is not there yet, or was collected; one that is there stays as it is. */
export function* putBlob({ digest, data }: BlobRecord): Work<void> {
  const rows = yield statement(
    `INSERT INTO blobs (digest, size) VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET collected = 0 WHERE blobs.collected = 1 RETURNING size`,
    digest,
    data.length,
  );
  if (rows.length > 0) yield* putChunks({ digest, data });
}

/** Writes a blob anew over what is there of it; false where it was let go. */
export function* repairBlob({ digest, data }: BlobRecord): Work<boolean> {
  const rows = yield statement(
    `INSERT INTO blobs (digest, size) VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET size = excluded.size WHERE blobs.collected = 0 RETURNING size`,
    digest,
    data.length,
  );
  if (rows.length === 0) return false;
  yield statement('DELETE FROM blob_chunks WHERE digest = ?', digest);
  yield* putChunks({ digest, data });
  return true;
}

function* putChunks({ digest, data }: BlobRecord): Work<void> {
  for (const chunk of chunksOf(data)) {
    yield statement('INSERT INTO blob_chunks VALUES (?, ?, ?, ?)', digest, chunk.position, chunk.data, chunk.digest);
  }
}
