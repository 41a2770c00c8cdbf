import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fromBinary } from '@bufbuild/protobuf';
import { ContributionListSchema, ManifestSchema, ReceiptSchema } from '@commonweight/proto';
import type { PostgresServer } from '../../support/postgres.ts';
import type { Committed, Ending, History } from './ledger.ts';

type Row = Record<string, unknown>;
type Query = (sql: string) => Promise<Row[]>;

const bytes = (row: Row, column: string): Uint8Array => new Uint8Array(row[column] as Uint8Array);
const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex');
const digestOf = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

/** What a data folder holds, read with SQL and by no code of the coordinator, which must have ended. */
export function readFolder(dataDir: string): Promise<Pick<History, 'versions' | 'receipts'>> {
  const database = new DatabaseSync(join(dataDir, 'commonweight.sqlite'));
  return read(async (sql) => database.prepare(sql).all()).finally(() => database.close());
}

/** The same of a PostgreSQL database. */
export const readPostgres = (
  server: PostgresServer,
  database: string,
): Promise<Pick<History, 'versions' | 'receipts'>> => read((sql) => server.query(database, sql));

async function read(query: Query): Promise<Pick<History, 'versions' | 'receipts'>> {
  const lists = new Map<string, Uint8Array[]>();
  for (const row of await query('SELECT digest, data FROM blob_chunks ORDER BY digest, position')) {
    const digest = hex(bytes(row, 'digest'));
    lists.set(digest, [...(lists.get(digest) ?? []), bytes(row, 'data')]);
  }
  const blob = (digest: Uint8Array): Uint8Array => {
    const data = Buffer.concat(lists.get(hex(digest)) ?? []);
    if (digestOf(data) !== hex(digest)) throw new Error(`blob ${hex(digest)} is missing or damaged`);
    return data;
  };
  const versions = (await query('SELECT * FROM versions ORDER BY model, version')).map((row): Committed => {
    const bytesOfManifest = bytes(row, 'manifest');
    const manifest = fromBinary(ManifestSchema, bytesOfManifest);
    const list = manifest.contributionsDigest;
    for (const { digest } of manifest.artifacts) blob(digest);
    return {
      model: manifest.model,
      version: Number(manifest.version),
      epoch: Number(manifest.epoch),
      digest: digestOf(bytesOfManifest),
      parentDigest: hex(manifest.parentDigest),
      updates:
        list.length === 0
          ? []
          : fromBinary(ContributionListSchema, blob(list)).accepted.map(({ updateId }) => hex(updateId)),
    };
  });
  const receipts = new Map<string, Ending>();
  for (const row of await query('SELECT receipt FROM receipts')) {
    const { updateId, outcome } = fromBinary(ReceiptSchema, bytes(row, 'receipt'));
    receipts.set(hex(updateId), outcome.case === 'committedVersion' ? Number(outcome.value) : 'rejected');
  }
  return { versions, receipts };
}
