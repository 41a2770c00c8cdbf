import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { SIGNING_KEY_FILE } from '../identity/signer.ts';
import { DATABASE_FILE, type SqliteStore } from './sqlite-store.ts';
import { StoreError } from './store.ts';

/**
 * Writes a copy of a data folder that is whole at one instant, while the store is in use: the database and the signing key. `target` is there
 * whole or not at all. Throws StoreError.
 */
export async function backupTo(store: SqliteStore, dataDir: string, target: string): Promise<void> {
  if (existsSync(target)) throw new StoreError(`${target} is there already: give a folder that is not`);
  let temporary: string | undefined;
  try {
    mkdirSync(dirname(target), { recursive: true });
    temporary = mkdtempSync(join(dirname(target), `.${basename(target)}-`));
    await store.backup(join(temporary, DATABASE_FILE));
    copyFileSync(join(dataDir, SIGNING_KEY_FILE), join(temporary, SIGNING_KEY_FILE));
    renameSync(temporary, target);
  } catch (cause) {
    if (temporary !== undefined) rmSync(temporary, { recursive: true, force: true });
    if (cause instanceof StoreError) throw cause;
    throw new StoreError(`cannot write the backup ${target}: ${(cause as Error).message}`, { cause });
  }
}

/** Makes a data folder from a backup. Throws StoreError where the folder is in use already or the backup is none. */
export function restoreFrom(source: string, dataDir: string): void {
  const files = [DATABASE_FILE, SIGNING_KEY_FILE];
  const missing = files.find((file) => !existsSync(join(source, file)));
  if (missing !== undefined) throw new StoreError(`${source} is no backup: it has no ${missing}`);
  if (existsSync(dataDir) && readdirSync(dataDir).length > 0) {
    throw new StoreError(`${dataDir} is not empty: give a new folder, and keep the old one until all is well`);
  }
  mkdirSync(dataDir, { recursive: true });
  for (const file of files) copyFileSync(join(source, file), join(dataDir, file));
}
