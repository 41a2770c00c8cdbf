/**
 * Labelled examples of an app in a folder, for an agent of the same device to train on: text files that are only ever appended to, each of
 * one process. What was said to be kept is on disk; a file that a crash cut off ends in half a line, which readers leave out. The oldest
 * files go where there are too many bytes.
 */
import { mkdir, open, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelError } from '../errors.ts';
import { lineOf, type LabelledExample } from './feedback-line.ts';

const NAME = /^feedback-(\d{8})\.jsonl$/;
const FILE_BYTES = 4 * 1024 * 1024;
export const DISK_BYTES_MAX: number = 64 * 1024 * 1024;
/** Examples that wait for the disk. */
const WAITING_MAX = 1_024;

/** Examples that are to be written. */
interface Waiting {
  lines: string;
  done: PromiseWithResolvers<void>;
}

export interface FeedbackStore {
  /** Resolves once the examples are on disk. Throws ModelError. */
  add(examples: readonly LabelledExample[]): Promise<void>;
  close(): Promise<void>;
}

export class FeedbackFolder implements FeedbackStore {
  readonly #folder: string;
  readonly #bytesMax: number;
  #file: { handle: FileHandle; bytes: number } | undefined;
  readonly #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;
  #isClosed = false;

  constructor(folder: string, bytesMax: number = DISK_BYTES_MAX) {
    this.#folder = folder;
    this.#bytesMax = bytesMax;
  }

  add(examples: readonly LabelledExample[]): Promise<void> {
    if (this.#isClosed) return Promise.reject(new ModelError('the client is closed'));
    if (this.#waiting.length >= WAITING_MAX)
      return Promise.reject(new ModelError(`feedback comes faster than ${this.#folder} takes it: try again later`));
    const done = Promise.withResolvers<void>();
    this.#waiting.push({ lines: examples.map((example) => `${lineOf(example)}\n`).join(''), done });
    this.#writing ??= this.#write();
    return done.promise;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#writing;
    await this.#file?.handle.close();
    this.#file = undefined;
  }

  /** Whatever waits is written and synced together. */
  async #write(): Promise<void> {
    // In a turn of its own: what comes at the same time is written with it.
    await Promise.resolve();
    for (let batch = this.#waiting.splice(0); batch.length > 0; batch = this.#waiting.splice(0))
      await this.#writeBatch(batch);
    // In the same turn as the last look at what waits.
    this.#writing = undefined;
  }

  async #writeBatch(batch: readonly Waiting[]): Promise<void> {
    try {
      const bytes = Buffer.from(batch.map(({ lines }) => lines).join(''));
      const file = await this.#current();
      await file.handle.appendFile(bytes);
      await file.handle.datasync();
      file.bytes += bytes.length;
      for (const { done } of batch) done.resolve();
    } catch (cause) {
      // What of it is in the file may be half a line: the next goes into another.
      await this.#file?.handle.close().catch(() => {});
      this.#file = undefined;
      const message = `feedback could not be written to ${this.#folder}: ${(cause as Error).message}`;
      for (const { done } of batch) done.reject(new ModelError(message, { cause }));
    }
  }

  async #current(): Promise<{ handle: FileHandle; bytes: number }> {
    if (this.#file !== undefined && this.#file.bytes < FILE_BYTES) return this.#file;
    await this.#file?.handle.close();
    this.#file = undefined;
    await mkdir(this.#folder, { recursive: true });
    const files = await feedbackFiles(this.#folder);
    for (let number = (files.at(-1)?.number ?? 0) + 1; ; number += 1) {
      try {
        const name = `feedback-${String(number).padStart(8, '0')}.jsonl`;
        this.#file = { handle: await open(join(this.#folder, name), 'ax'), bytes: 0 };
        break;
      } catch (error) {
        // Another process of the app has taken it.
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
    }
    await this.#makeRoom(files);
    return this.#file;
  }

  async #makeRoom(files: readonly FeedbackFile[]): Promise<void> {
    let bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    for (const file of files) {
      if (bytes + FILE_BYTES <= this.#bytesMax) return;
      await rm(file.path, { force: true });
      bytes -= file.bytes;
    }
  }
}

export interface FeedbackFile {
  path: string;
  number: number;
  bytes: number;
}

/** The files of a folder, the oldest first. */
export async function feedbackFiles(folder: string): Promise<FeedbackFile[]> {
  const found: FeedbackFile[] = [];
  for (const name of await readdir(folder)) {
    const [, number] = NAME.exec(name) ?? [];
    if (number === undefined) continue;
    const path = join(folder, name);
    const { size } = await stat(path).catch(() => ({ size: 0 }));
    found.push({ path, number: Number(number), bytes: size });
  }
  return found.sort((a, b) => a.number - b.number);
}
