import { ServiceError } from '../service.ts';

/** Bytes of unfinished uploads that are kept at once, over all agents. */
const UPLOAD_BYTES_MAX = 2 ** 29;
/** An upload that got no chunk for this long makes room where it is needed. */
const IDLE_MS = 30_000;

interface Upload {
  id: string;
  payload: Uint8Array;
  offset: number;
  touchedMs: number;
}

/**
 * Updates that came in part. One an agent: a newer update replaces the older. They outlive a broken link, so that the agent goes on where
 * it was; they live in memory, for a restart asks again anyway.
 */
export class Uploads {
  readonly #nowMs: () => number;
  readonly #bytesMax: number;
  /** Least recently touched first. */
  readonly #byAgent = new Map<string, Upload>();
  #bytes = 0;

  constructor(nowMs: () => number, bytesMax: number = UPLOAD_BYTES_MAX) {
    this.#nowMs = nowMs;
    this.#bytesMax = bytesMax;
  }

  /** Bytes held of an update. */
  offset(id: string): number {
    for (const upload of this.#byAgent.values()) if (upload.id === id) return upload.offset;
    return 0;
  }

  /**
   * Takes a chunk; gives the payload once it is whole, else how far it is. A chunk that does not follow is not taken. Throws ServiceError
   * where too much is under way.
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
    upload.payload.set(data, offset);
    upload.offset += data.length;
    if (upload.offset < size) return { offset: upload.offset };
    this.#drop(agentId);
    return { offset: size, payload: upload.payload };
  }

  #drop(agentId: string): void {
    const upload = this.#byAgent.get(agentId);
    if (upload === undefined) return;
    this.#bytes -= upload.payload.length;
    this.#byAgent.delete(agentId);
  }

  #uploadOf(agentId: string, id: string, size: number): Upload {
    const touchedMs = this.#nowMs();
    const known = this.#byAgent.get(agentId);
    if (known?.id === id && known.payload.length === size) {
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
    const upload = { id, payload: new Uint8Array(size), offset: 0, touchedMs };
    this.#bytes += size;
    this.#byAgent.set(agentId, upload);
    return upload;
  }
}
