import {
  openSigner,
  parsePostgresUrl,
  PostgresReads,
  SqliteStore,
  StoreError,
  type StoreReads,
} from '@commonweight/coordinator';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

export const DATA = '.commonweight/coordinator';

/** A folder that is not there would be made, and be whole. */
export function existing(folder: string, file = 'commonweight.sqlite'): string {
  const data = resolve(folder);
  if (!existsSync(join(data, file))) {
    throw new StoreError(`${data} holds no coordinator's data: say where it is with --data`);
  }
  return data;
}

/** Where a store is. */
export interface StorePlace {
  /** The coordinator's folder, or a backup of one. */
  data: string;
  /** The database, where coordinators share one; the folder has the key alone then. */
  postgres?: string;
}

/** Works with a store that no coordinator serves just now (or with the database that several serve), and closes it. */
export async function withStore<T>(
  { data, postgres }: StorePlace,
  work: (store: StoreReads, publicKey: Uint8Array) => Promise<T>,
): Promise<T> {
  const folder = existing(data, postgres === undefined ? undefined : 'signing-key.pem');
  const { publicKey } = openSigner(folder);
  const store =
    postgres === undefined ? SqliteStore.open(folder) : await PostgresReads.open(parsePostgresUrl(postgres), publicKey);
  try {
    return await work(store, publicKey);
  } finally {
    await store.close();
  }
}
