import { chunksOf } from './blob-chunks.ts';
import type { Commit, VersionRecord } from './store.ts';
import { statement, type Work } from './work.ts';

/** Puts the updates of a version, and takes those of the versions that are too old by now. */
export function* putRetained(
  { model, version }: VersionRecord,
  { updates, versions }: Commit['retained'] & {},
): Work<void> {
  for (const { updateId, header, payload } of updates) {
    const bytes = payload();
    const sql = 'INSERT INTO retained_updates VALUES (?, ?, ?, ?, ?)';
    yield statement(sql, updateId, model, version, header, bytes.length);
    for (const { position, data, digest } of chunksOf(bytes)) {
      yield statement('INSERT INTO retained_chunks VALUES (?, ?, ?, ?)', updateId, position, data, digest);
    }
  }
  const old = [model, version - versions] as const;
  yield statement(
    'DELETE FROM retained_chunks WHERE update_id IN (SELECT update_id FROM retained_updates WHERE model = ? AND version <= ?)',
    ...old,
  );
  yield statement('DELETE FROM retained_updates WHERE model = ? AND version <= ?', ...old);
}
