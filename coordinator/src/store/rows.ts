import { createHash } from 'node:crypto';
import { equalBytes } from '@commonweight/proto';
import {
  StoreError,
  type CandidateRecord,
  type ChannelRecord,
  type ReportSnapshot,
  type ResultRecord,
  type RetainedUpdate,
  type TaskRecord,
  type VariantsRecord,
  type VersionRecord,
} from './store.ts';

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
    ...(Number(row['collected']) === 1 ? { isCollected: true as const } : {}),
  };
}

export const candidateOf = (row: Row): CandidateRecord => ({
  model: String(row['model']),
  number: Number(row['number']),
  record: bytesOf(row, 'record'),
  signature: bytesOf(row, 'signature'),
  isPending: Number(row['pending']) === 1,
  isKept: Number(row['kept']) === 1,
});

export const resultOf = (row: Row): ResultRecord => ({
  task: String(row['task']),
  round: Number(row['round']),
  model: String(row['model']),
  record: bytesOf(row, 'record'),
  signature: bytesOf(row, 'signature'),
});

export function variantsOf(row: Row | undefined): VariantsRecord | undefined {
  if (row === undefined) return undefined;
  return {
    model: String(row['model']),
    version: Number(row['version']),
    list: bytesOf(row, 'list'),
    signature: bytesOf(row, 'signature'),
  };
}

/** Throws StoreError where the row is not what was written. */
export function taskOf(row: Row): TaskRecord {
  const record = {
    task: String(row['task']),
    configJson: String(row['config_json']),
    state: String(row['state']),
    roundJson: String(row['round_json']),
    countersJson: String(row['counters_json']),
  };
  const digest = row['digest'];
  const isWhole = digest === null || (digest instanceof Uint8Array && equalBytes(digest, taskDigest(record)));
  if (isWhole) return record;
  throw new StoreError(`the record of task '${record.task}' is damaged: restore a backup`);
}

export const taskDigest = ({ task, configJson, state, roundJson, countersJson }: TaskRecord): Uint8Array =>
  createHash('sha256')
    .update(JSON.stringify([task, configJson, state, roundJson, countersJson]))
    .digest();

/** Throws StoreError where the row is not what was written. */
export function channelOf(row: Row): ChannelRecord {
  const record = {
    model: String(row['model']),
    channel: String(row['channel']),
    revision: Number(row['revision']),
    version: Number(row['version']),
    candidate: Number(row['candidate']),
    before: Number(row['version_before']),
    record: bytesOf(row, 'record'),
    signature: bytesOf(row, 'signature'),
    stateJson: String(row['state_json']),
  };
  if (equalBytes(bytesOf(row, 'digest'), channelDigest(record))) return record;
  throw new StoreError(`the record of channel ${record.channel} of ${record.model} is damaged: restore a backup`);
}

export function channelDigest({ record, signature, ...rest }: ChannelRecord): Uint8Array {
  const { model, channel, revision, version, candidate, before, stateJson } = rest;
  const said = JSON.stringify([model, channel, revision, version, candidate, before, stateJson]);
  return createHash('sha256').update(said).update(record).update(signature).digest();
}

/** Undefined where the row is not what was written. */
export function snapshotOf(row: Row): ReportSnapshot | undefined {
  const snapshot = { model: String(row['model']), sumsJson: String(row['sums_json']) };
  return equalBytes(bytesOf(row, 'digest'), snapshotDigest(snapshot)) ? snapshot : undefined;
}

export const snapshotDigest = ({ model, sumsJson }: ReportSnapshot): Uint8Array =>
  createHash('sha256')
    .update(JSON.stringify([model, sumsJson]))
    .digest();

export const numberOf = (row: Row): number => Number(row['version']);

export const retainedOf = (row: Row): Omit<RetainedUpdate, 'payload'> => ({
  updateId: bytesOf(row, 'update_id'),
  header: bytesOf(row, 'header'),
});
