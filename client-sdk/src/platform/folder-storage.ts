import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readIfThere, writeAtomic } from '../cache/atomic-file.ts';
import type { Storage } from './storage.ts';

/** Files in a folder. */
export class FolderStorage implements Storage {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  where(path: string): string {
    return join(this.#folder, path);
  }

  read(path: string): Promise<Uint8Array | undefined> {
    return readIfThere(this.where(path));
  }

  write(path: string, bytes: Uint8Array): Promise<void> {
    return writeAtomic(this.where(path), bytes);
  }

  remove(path: string): Promise<void> {
    return rm(this.where(path), { force: true });
  }

  async list(folder: string): Promise<string[]> {
    try {
      const entries = await readdir(this.where(folder), { withFileTypes: true });
      return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  }
}
