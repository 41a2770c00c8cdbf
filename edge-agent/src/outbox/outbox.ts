import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { hex, type Sha256, type Storage } from '@commonweight/client-sdk';
import { equalBytes, UpdateHeaderSchema, type UpdateHeader } from '@commonweight/proto';
import { setAside } from '../set-aside.ts';

/** An update that waits for its receipt. */
export interface OutboxEntry {
  header: UpdateHeader;
  payload: Uint8Array;
}

/** Where an outbox is kept. */
export interface OutboxPlace {
  storage: Storage;
  folder: string;
  sha256: Sha256;
}

const SUFFIX = '.update';
const DIGEST_BYTES = 32;

/**
 * Updates on the agent's own disk until a receipt ends them: the log from which a coordinator that lost its memory is filled
 * again. One file an update: digest of the rest, length of the header, header, payload.
 */
export class Outbox {
  readonly #place: OutboxPlace;
  readonly #entries = new Map<string, OutboxEntry>();

  private constructor(place: OutboxPlace) {
    this.#place = place;
  }

  /** Opens a folder and sweeps up what a crash left half written. A file that is damaged is set aside under another name and told. */
  static async open(place: OutboxPlace, onDamaged: (path: string) => void): Promise<Outbox> {
    const outbox = new Outbox(place);
    const { storage, folder } = place;
    for (const name of await storage.list(folder)) {
      const path = `${folder}/${name}`;
      // What a crash left half written was never an entry: it has no receipt to wait for.
      if (name.endsWith('.tmp')) await storage.remove(path);
      if (!name.endsWith(SUFFIX)) continue;
      const entry = await outbox.#decoded(await storage.read(path));
      if (entry !== undefined && nameOf(entry.header.updateId) === name) outbox.#entries.set(name, entry);
      else onDamaged(await setAside(storage, path));
    }
    return outbox;
  }

  /** Keeps an update: it is on the disk when this resolves. */
  async put(entry: OutboxEntry): Promise<void> {
    const name = nameOf(entry.header.updateId);
    await this.#place.storage.write(this.#path(name), await this.#encoded(entry));
    this.#entries.set(name, entry);
  }

  get(updateId: Uint8Array): OutboxEntry | undefined {
    return this.#entries.get(nameOf(updateId));
  }

  async delete(updateId: Uint8Array): Promise<void> {
    const name = nameOf(updateId);
    this.#entries.delete(name);
    await this.#place.storage.remove(this.#path(name));
  }

  entries(): OutboxEntry[] {
    return [...this.#entries.values()];
  }

  #path(name: string): string {
    return `${this.#place.folder}/${name}`;
  }

  async #encoded({ header, payload }: OutboxEntry): Promise<Uint8Array> {
    const head = toBinary(UpdateHeaderSchema, header);
    const bytes = new Uint8Array(DIGEST_BYTES + 4 + head.length + payload.length);
    const body = bytes.subarray(DIGEST_BYTES);
    new DataView(body.buffer, body.byteOffset).setUint32(0, head.length, true);
    body.set(head, 4);
    body.set(payload, 4 + head.length);
    bytes.set(await this.#place.sha256(body));
    return bytes;
  }

  async #decoded(bytes: Uint8Array | undefined): Promise<OutboxEntry | undefined> {
    if (bytes === undefined || bytes.length < DIGEST_BYTES + 4) return undefined;
    const body = bytes.subarray(DIGEST_BYTES);
    if (!equalBytes(await this.#place.sha256(body), bytes.subarray(0, DIGEST_BYTES))) return undefined;
    const length = new DataView(body.buffer, body.byteOffset).getUint32(0, true);
    return { header: fromBinary(UpdateHeaderSchema, body.subarray(4, 4 + length)), payload: body.slice(4 + length) };
  }
}

const nameOf = (updateId: Uint8Array): string => `${hex(updateId)}${SUFFIX}`;
