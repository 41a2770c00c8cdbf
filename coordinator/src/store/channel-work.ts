import { channelDigest, snapshotDigest } from './rows.ts';
import { StoreError, type ChannelRecord, type ReportSnapshot } from './store.ts';
import { statement, type Work } from './work.ts';

/** Puts a channel in place of what it was. Throws StoreError of the kind `refused` where it is not newer, or names what is not there whole. */
export function* putChannel(of: ChannelRecord): Work<void> {
  const { model, channel, revision, version, candidate, before, record, signature, stateJson } = of;
  for (const named of [version, candidate]) {
    if (named === 0) continue;
    const [row] = yield statement('SELECT collected FROM versions WHERE model = ? AND version = ?', model, named);
    if (row !== undefined && Number(row['collected']) === 0) continue;
    const what = row === undefined ? 'there is no such version' : 'its blobs were collected';
    throw new StoreError(`channel ${channel} of ${model} cannot have version ${named}: ${what}`, { kind: 'refused' });
  }
  const rows = yield statement(
    `INSERT INTO channels (model, channel, revision, version, candidate, version_before, record, signature, state_json, digest)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (model, channel) DO UPDATE SET
      revision = excluded.revision, version = excluded.version, candidate = excluded.candidate, version_before = excluded.version_before,
      record = excluded.record, signature = excluded.signature, state_json = excluded.state_json, digest = excluded.digest
      WHERE channels.revision < excluded.revision RETURNING revision`,
    model,
    channel,
    revision,
    version,
    candidate,
    before,
    record,
    signature,
    stateJson,
    channelDigest(of),
  );
  if (rows.length > 0) return;
  throw new StoreError(`channel ${channel} of ${model} has revision ${revision} or a higher one already`, {
    kind: 'refused',
  });
}

/** Puts what clients said of a model in place of what they had said before. */
export function* putSnapshot(snapshot: ReportSnapshot): Work<void> {
  const { model, sumsJson } = snapshot;
  yield statement(
    `INSERT INTO report_snapshots (model, sums_json, digest) VALUES (?, ?, ?)
      ON CONFLICT (model) DO UPDATE SET sums_json = excluded.sums_json, digest = excluded.digest`,
    model,
    sumsJson,
    snapshotDigest(snapshot),
  );
}
