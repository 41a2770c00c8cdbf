import type { TaskRecord, VersionRecord } from './store.ts';

/** A row of the schema, as both engines give it. */
export type Row = Record<string, unknown>;

export const bytesOf = (row: Row, column: string): Uint8Array => row[column] as Uint8Array;

export function versionOf(row: Row | undefined): VersionRecord | undefined {
  if (row === undefined) return undefined;
  return {
    model: String(row['model']),
    version: Number(row['version']),
    manifest: bytesOf(row, 'manifest'),
    signature: bytesOf(row, 'signature'),
    digest: bytesOf(row, 'digest'),
    parentDigest: bytesOf(row, 'parent_digest'),
  };
}

export const taskOf = (row: Row): TaskRecord => ({
  task: String(row['task']),
  configJson: String(row['config_json']),
  state: String(row['state']),
  roundJson: String(row['round_json']),
  countersJson: String(row['counters_json']),
});
