import { readSync } from 'node:fs';
import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { invariant } from '@commonweight/core';
import { StoreError } from '../store/store.ts';

/** Where a payload stands in the file. */
export interface SpooledPayload {
  offset: number;
  bytes: number;
}

/** The payloads of a round, one after the other. */
export interface SpooledRound {
  path: string;
  /** By update id, in hexadecimal. */
  payloads: ReadonlyMap<string, SpooledPayload>;
}

/**
 * The payloads of a round's updates in one file, for rules that must see each of them and for versions whose updates are retained: it holds as many as the cohort has agents. Nothing
 * here outlives the process, so nothing is synced: after a restart the agents are asked again.
 */
export class RoundSpool {
  readonly #path: string;
  #payloads = new Map<string, SpooledPayload>();
  #end = 0;
  #file: FileHandle | undefined;
  #cleared: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  get round(): SpooledRound {
    return { path: this.#path, payloads: this.#payloads };
  }

  /** Throws StoreError, of kind `full` where the disk has no room: then the spool is what it was. */
  async append(updateId: string, payload: Uint8Array): Promise<void> {
    await this.#doing(async () => {
      await this.#cleared;
      this.#file ??= await this.#open();
      const offset = this.#end;
      for (let written = 0; written < payload.length;) {
        const left = payload.length - written;
        written += (await this.#file.write(payload, written, left, offset + written)).bytesWritten;
      }
      this.#payloads.set(updateId, { offset, bytes: payload.length });
      this.#end = offset + payload.length;
    });
  }

  /** The payload of an update. Throws StoreError. */
  read(updateId: string): Uint8Array {
    const place = this.#payloads.get(updateId);
    invariant(place !== undefined && this.#file !== undefined, 'accepted updates are in the spool');
    const payload = new Uint8Array(place.bytes);
    try {
      for (let read = 0; read < payload.length;) {
        const got = readSync(this.#file.fd, payload, read, payload.length - read, place.offset + read);
        if (got === 0) throw new Error('it ends too early');
        read += got;
      }
    } catch (cause) {
      throw spoolError(this.#path, cause);
    }
    return payload;
  }

  /** Forgets all updates and removes the file; what goes wrong with that is said by `settled` and by the next append. */
  clear(): void {
    this.#payloads = new Map();
    this.#end = 0;
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    this.#cleared = this.#cleared.then(async () => {
      await file.close();
      await rm(this.#path, { force: true });
    });
    this.#cleared.catch(() => {});
  }

  /** Resolves when a cleared file is gone. Throws StoreError. */
  settled(): Promise<void> {
    return this.#doing(() => this.#cleared);
  }

  async #open(): Promise<FileHandle> {
    await mkdir(dirname(this.#path), { recursive: true });
    return open(this.#path, 'w+');
  }

  async #doing(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      throw spoolError(this.#path, cause);
    }
  }
}

function spoolError(path: string, cause: unknown): StoreError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const isFull = code === 'ENOSPC' || code === 'EDQUOT';
  return new StoreError(
    isFull
      ? `the disk is full: the updates of a round find no room in ${path}`
      : `cannot keep the updates of a round in ${path}: ${message}`,
    { cause, kind: isFull ? 'full' : 'broken' },
  );
}
