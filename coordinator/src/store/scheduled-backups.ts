import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../clock.ts';
import { backupTo } from './backup.ts';
import type { SqliteStore } from './sqlite-store.ts';

export interface BackupSchedule {
  folder: string;
  everyMs: number;
  /** How many stay; the oldest go first. */
  keep: number;
}

/** Names that sort by time and are fit for every file system: `2026-01-31T12-00-00Z`. */
const NAME = /^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ$/;

/** Backs a data folder up again and again until the returned function is called. One that fails is told, and the next is tried. */
export function startBackups(
  store: SqliteStore,
  dataDir: string,
  { folder, everyMs, keep }: BackupSchedule,
  { clock, log }: { clock: Clock; log: (line: string) => void },
): () => void {
  let running = false;
  const backup = async (): Promise<void> => {
    if (running) return;
    running = true;
    try {
      const name = `${new Date(clock.nowMs()).toISOString().slice(0, 19).replaceAll(':', '-')}Z`;
      if (existsSync(join(folder, name))) return;
      await backupTo(store, dataDir, join(folder, name));
      const old = readdirSync(folder)
        .filter((one) => NAME.test(one))
        .sort()
        .slice(0, -keep);
      for (const one of old) rmSync(join(folder, one), { recursive: true, force: true });
      log(`backed up to ${join(folder, name)}`);
    } catch (error) {
      log((error as Error).message);
    } finally {
      running = false;
    }
  };
  void backup();
  return clock.every(everyMs, () => void backup());
}
