import { closeSync, mkdirSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ServiceError } from '../service.ts';

/** Bytes of unfinished uploads that are kept at once, over all agents. */
const UPLOAD_BYTES_MAX = 2 ** 29;
/** As much of them is in memory: thousands of agents on slow links must not take thousands of times an update. */
const MEMORY_BYTES_MAX = 2 ** 24;
/** An upload that got no chunk for this long makes room where it is needed. */
const IDLE_MS = 30_000;

interface Upload {
  id: string;
  size: number;
  part: Part;
  offset: number;
  touchedMs: number;
}

/** What is there of an upload. */
interface Part {
  readonly memoryBytes: number;
  append(data: Uint8Array, offset: number): void;
  /** Its first `size` bytes: the payload, which must be checked against its digest. */
  whole(size: number): Uint8Array;
  remove(): void;
}

export interface UploadLimits {
  bytesMax?: number;
  memoryBytesMax?: number;
}

/**
 * Updates that came in part. One an agent: a newer update replaces the older. They outlive a broken link, so that the agent goes on where
 * it was, and not the process, for a restart asks again anyway: what is not in memory is in files that nobody syncs.
 */
export class Uploads {
  readonly #nowMs: () => number;
  readonly #folder: string;
  readonly #bytesMax: number;
  readonly #memoryBytesMax: number;
  /** Least recently touched first. */
  readonly #byAgent = new Map<string, Upload>();
  #bytes = 0;
  #memoryBytes = 0;

  /** What is in the folder goes: a process that is no more has left it there. */
  constructor(
    nowMs: () => number,
    folder: string,
    { bytesMax = UPLOAD_BYTES_MAX, memoryBytesMax = MEMORY_BYTES_MAX }: UploadLimits = {},
  ) {
    this.#nowMs = nowMs;
    this.#folder = folder;
    this.#bytesMax = bytesMax;
    this.#memoryBytesMax = memoryBytesMax;
    rmSync(folder, { recursive: true, force: true });
  }

  /** Bytes held of an update. */
  offset(id: string): number {
    for (const upload of this.#byAgent.values()) if (upload.id === id) return upload.offset;
    return 0;
  }

  /**
   * Takes a chunk; gives the payload once it is whole, else how far it is. A chunk that does not follow is not taken. Throws ServiceError
   * where too much is under way, or the disk does not take it: then it begins again.
   */
  receive(
    agentId: string,
    id: string,
    size: number,
    offset: number,
    data: Uint8Array,
  ): { offset: number; payload?: Uint8Array } {
    if (offset === 0 && data.length === size) {
      this.#drop(agentId);
      return { offset: size, payload: data };
    }
    const upload = this.#uploadOf(agentId, id, size);
    if (offset !== upload.offset || offset + data.length > size) return { offset: upload.offset };
    try {
      upload.part.append(data, offset);
      upload.offset += data.length;
      if (upload.offset < size) return { offset: upload.offset };
      const payload = upload.part.whole(size);
      this.#drop(agentId);
      return { offset: size, payload };
    } catch (error) {
      this.#drop(agentId);
      const { message } = error as Error;
      throw new ServiceError('resource-exhausted', `no room for an upload (${message}): try again in a few seconds`);
    }
  }

  #drop(agentId: string): void {
    const upload = this.#byAgent.get(agentId);
    if (upload === undefined) return;
    this.#bytes -= upload.size;
    this.#memoryBytes -= upload.part.memoryBytes;
    this.#byAgent.delete(agentId);
    upload.part.remove();
  }

  #uploadOf(agentId: string, id: string, size: number): Upload {
    const touchedMs = this.#nowMs();
    const known = this.#byAgent.get(agentId);
    if (known?.id === id && known.size === size) {
      known.touchedMs = touchedMs;
      this.#byAgent.delete(agentId);
      this.#byAgent.set(agentId, known);
      return known;
    }
    this.#drop(agentId);
    for (const [other, { touchedMs: at }] of this.#byAgent) {
      if (this.#bytes + size <= this.#bytesMax || touchedMs - at < IDLE_MS) break;
      this.#drop(other);
    }
    if (this.#bytes + size > this.#bytesMax) {
      throw new ServiceError('resource-exhausted', 'too many uploads at once: try again in a few seconds');
    }
    const isInMemory = this.#memoryBytes + size <= this.#memoryBytesMax;
    const part = isInMemory ? partInMemory(size) : partInFile(join(this.#folder, id));
    const upload = { id, size, part, offset: 0, touchedMs };
    this.#bytes += size;
    this.#memoryBytes += part.memoryBytes;
    this.#byAgent.set(agentId, upload);
    return upload;
  }
}

function partInMemory(size: number): Part {
  const bytes = new Uint8Array(size);
  return {
    memoryBytes: size,
    append: (data, offset) => bytes.set(data, offset),
    whole: () => bytes,
    remove: () => {},
  };
}

/** Open only while a chunk is written: there may be as many as there are agents. */
function partInFile(path: string): Part {
  return {
    memoryBytes: 0,
    append(data, offset) {
      if (offset === 0) mkdirSync(dirname(path), { recursive: true });
      const file = openSync(path, offset === 0 ? 'w' : 'r+');
      try {
        for (let written = 0; written < data.length;) {
          written += writeSync(file, data, written, data.length - written, offset + written);
        }
      } finally {
        closeSync(file);
      }
    },
    whole(size) {
      const bytes = new Uint8Array(size);
      const file = openSync(path, 'r');
      try {
        for (let read = 0; read < size;) {
          const got = readSync(file, bytes, read, size - read, read);
          if (got === 0) throw new Error('what was kept of it is not there any more');
          read += got;
        }
      } finally {
        closeSync(file);
      }
      return bytes;
    },
    remove() {
      try {
        rmSync(path, { force: true });
      } catch {
        // It goes with the folder, at the next start.
      }
    },
  };
}
