import { crc32 } from './crc32.ts';

/** Small files by path; the parts of a path are joined by `/`. */
export interface Storage {
  read(path: string): Promise<Uint8Array | undefined>;
  /** The old bytes or the new ones, whole: also after a crash in between. On disk when this resolves. */
  write(path: string, bytes: Uint8Array): Promise<void>;
  /** Deletes a file; one that is not there is no error. */
  remove(path: string): Promise<void>;
  /** Names of the files of a folder; none where there is no such folder. */
  list(folder: string): Promise<string[]>;
  /** What a person would look for to delete a file. */
  where(path: string): string;
}

/** Files that end with the process. */
export class MemoryStorage implements Storage {
  readonly #files = new Map<string, Uint8Array>();

  read(path: string): Promise<Uint8Array | undefined> {
    return Promise.resolve(this.#files.get(path));
  }

  write(path: string, bytes: Uint8Array): Promise<void> {
    this.#files.set(path, bytes);
    return Promise.resolve();
  }

  remove(path: string): Promise<void> {
    this.#files.delete(path);
    return Promise.resolve();
  }

  list(folder: string): Promise<string[]> {
    const paths = [...this.#files.keys()].filter((path) => path.startsWith(`${folder}/`));
    return Promise.resolve(paths.map((path) => path.slice(folder.length + 1)).filter((name) => !name.includes('/')));
  }

  where(path: string): string {
    return `${path} (in memory)`;
  }
}

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** A last line with the checksum of what is before it. */
const SUM = /^([^]*)\ncrc32 ([0-9a-f]{8})\n$/;

/**
 * A file's text, or undefined where there is none. Where its checksum is wrong, the text comes with the line of the checksum, which is
 * nothing that a reader of the text can take for its own.
 */
export async function readText(storage: Storage, path: string): Promise<string | undefined> {
  const bytes = await storage.read(path);
  if (bytes === undefined) return undefined;
  const whole = decoder.decode(bytes);
  const [, text, sum] = SUM.exec(whole) ?? [];
  return text !== undefined && sum === crc32(encoder.encode(text)) ? text : whole;
}

/** Writes a text and its checksum. */
export const writeText = (storage: Storage, path: string, text: string): Promise<void> =>
  storage.write(path, encoder.encode(`${text}\ncrc32 ${crc32(encoder.encode(text))}\n`));
