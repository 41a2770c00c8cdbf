import { fromBinary } from '@bufbuild/protobuf';
import { ManifestSchema, VariantListSchema } from '@commonweight/proto';
import { digestsOfCandidate } from './candidate-work.ts';
import { bytesOf, type Row } from './rows.ts';
import { StoreError, type BlobRecord, type Collected, type Commit, type VariantsRecord } from './store.ts';
import { statement, type Work } from './work.ts';

/** Versions that one transaction lets go: a bound on how long it keeps everybody else. */
const VERSIONS_MAX = 16;

const WITH_FORMS =
  'SELECT v.model, v.version, v.manifest, l.list FROM versions v LEFT JOIN variant_lists l ON l.model = v.model AND l.version = v.version';

/** Lets the blobs of some older versions go: see Store.collect. */
export function* collect(model: string, keep: number): Work<Collected> {
  const old = yield statement(
    `${WITH_FORMS} WHERE v.model = ? AND v.collected = 0
      AND v.version <= (SELECT max(version) FROM versions WHERE model = v.model) - ?
      AND NOT EXISTS (SELECT 1 FROM pins p WHERE p.model = v.model AND p.version = v.version)
      AND NOT EXISTS (SELECT 1 FROM channels c WHERE c.model = v.model AND v.version IN (c.version, c.candidate, c.version_before))
      AND NOT EXISTS (SELECT 1 FROM retained_updates r WHERE r.model = v.model AND r.version IN (v.version, v.version + 1))
      ORDER BY v.version LIMIT ${VERSIONS_MAX}`,
    model,
    keep,
  );
  const collected: Collected = { versions: [], blobs: 0, bytes: 0 };
  if (old.length === 0) return collected;
  for (const { version } of old) {
    yield statement('UPDATE versions SET collected = 1 WHERE model = ? AND version = ?', model, Number(version));
    collected.versions.push(Number(version));
  }
  const candidates = yield statement('SELECT record FROM candidates WHERE kept = 1');
  const needed = new Set([...(yield* digestsOfVersions()), ...candidates.flatMap(digestsOfCandidate)]);
  return { ...collected, ...(yield* letGo(new Set(old.flatMap(blobsOf).filter((id) => !needed.has(id))))) };
}

/** Digests of what all kept versions consist of, in hexadecimal. */
export function* digestsOfVersions(): Work<string[]> {
  return (yield statement(`${WITH_FORMS} WHERE v.collected = 0`)).flatMap(blobsOf);
}

/** Lets blobs go: their rows stay and say so. */
export function* letGo(ids: Iterable<string>): Work<Pick<Collected, 'blobs' | 'bytes'>> {
  const gone = { blobs: 0, bytes: 0 };
  for (const id of ids) {
    const digest = Buffer.from(id, 'hex');
    const sql = 'UPDATE blobs SET collected = 1 WHERE digest = ? AND collected = 0 RETURNING size';
    const [blob] = yield statement(sql, digest);
    if (blob === undefined) continue;
    yield statement('DELETE FROM blob_chunks WHERE digest = ?', digest);
    gone.blobs += 1;
    gone.bytes += Number(blob['size']);
  }
  return gone;
}

/**
 * Puts a list of forms in the place of the one before, and lets go what only that one named. Throws StoreError of the kind `collected` where
 * forms come for a version that was let go meanwhile: nothing would ever collect them.
 */
export function* putVariants(
  { model, version, list, signature }: VariantsRecord,
  forms: readonly BlobRecord[],
): Work<void> {
  if (forms.length > 0) {
    const sql = 'SELECT 1 AS found FROM versions WHERE model = ? AND version = ? AND collected = 1';
    if ((yield statement(sql, model, version)).length > 0) {
      throw new StoreError(`version ${version} of ${model} was collected: only newer and pinned versions have forms`, {
        kind: 'collected',
      });
    }
  }
  const [before] = yield statement('SELECT list FROM variant_lists WHERE model = ? AND version = ?', model, version);
  yield statement(
    `INSERT INTO variant_lists VALUES (?, ?, ?, ?) ON CONFLICT (model, version) DO UPDATE SET
      list = excluded.list, signature = excluded.signature`,
    model,
    version,
    list,
    signature,
  );
  if (before === undefined) return;
  const now = new Set(formsIn(list));
  const gone = formsIn(bytesOf(before, 'list')).filter((id) => !now.has(id));
  if (gone.length === 0) return;
  const needed = new Set(yield* digestsOfVersions());
  yield* letGo(gone.filter((id) => !needed.has(id)));
}

/** Puts or takes a pin. Throws StoreError of the kind `refused` where there is no such version any more. */
export function* putPin({ model, version, isPinned }: Commit['pin'] & {}): Work<void> {
  if (!isPinned) return void (yield statement('DELETE FROM pins WHERE model = ? AND version = ?', model, version));
  const [row] = yield statement('SELECT collected FROM versions WHERE model = ? AND version = ?', model, version);
  if (row === undefined || Number(row['collected']) === 1) {
    const what = row === undefined ? 'there is no such version' : 'its blobs were collected';
    throw new StoreError(`cannot pin version ${version} of ${model}: ${what}`, { kind: 'refused' });
  }
  yield statement('INSERT INTO pins VALUES (?, ?) ON CONFLICT (model, version) DO NOTHING', model, version);
}

/** Digests of a version's graph, weights, memory, deltas and forms, in hexadecimal. Its list of contributions is history, and no part of these. */
function blobsOf(row: Row): string[] {
  try {
    const { artifacts, earlierDeltas } = fromBinary(ManifestSchema, bytesOf(row, 'manifest'));
    const forms = row['list'] === null ? [] : formsIn(bytesOf(row, 'list'));
    return [...hexadecimal([...artifacts, ...earlierDeltas]), ...forms];
  } catch (cause) {
    throw new StoreError(
      `nothing is collected: the manifest of version ${Number(row['version'])} of ${String(row['model'])} is damaged: see \`commonweight verify\``,
      { cause, kind: 'refused' },
    );
  }
}

const formsIn = (list: Uint8Array): string[] => hexadecimal(fromBinary(VariantListSchema, list).variants);

/** Digests of those that have one. */
const hexadecimal = (blobs: readonly { digest: Uint8Array }[]): string[] =>
  blobs.flatMap(({ digest }) => (digest.length > 0 ? [Buffer.from(digest).toString('hex')] : []));
