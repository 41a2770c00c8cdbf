import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { equalBytes, UpdateHeaderSchema, type UpdateHeader } from '@commonweight/proto';
import { readIfThere, sha256, writeAtomic } from '@commonweight/client-sdk';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** An update that waits for its receipt. */
export interface OutboxEntry {
  header: UpdateHeader;
  payload: Uint8Array;
}

const SUFFIX = '.update';
const DIGEST_BYTES = 32;

/**
 * Updates on the agent's own disk until a receipt ends them: the log from which a coordinator that lost its memory is filled
 * again. One file an update: digest of the rest, length of the header, header, payload.
 */
export class Outbox {
  readonly #folder: string;
  readonly #entries = new Map<string, OutboxEntry>();

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Opens a folder and sweeps up what a crash left half written. A file that is damaged is set aside under another name and told. */
  static async open(folder: string, onDamaged: (path: string) => void): Promise<Outbox> {
    const outbox = new Outbox(folder);
    await mkdir(folder, { recursive: true });
    for (const name of await readdir(folder)) {
      // What a crash left half written was never an entry: it has no receipt to wait for.
      if (name.endsWith('.tmp')) await rm(join(folder, name), { force: true });
      if (!name.endsWith(SUFFIX)) continue;
      const path = join(folder, name);
      const entry = decode(await readIfThere(path));
      if (entry !== undefined && nameOf(entry.header.updateId) === name) {
        outbox.#entries.set(name, entry);
        continue;
      }
      await rename(path, `${path}.damaged`);
      onDamaged(`${path}.damaged`);
    }
    return outbox;
  }

  /** Keeps an update: it is on the disk when this resolves. */
  async put(entry: OutboxEntry): Promise<void> {
    const name = nameOf(entry.header.updateId);
    await writeAtomic(join(this.#folder, name), encode(entry));
    this.#entries.set(name, entry);
  }

  get(updateId: Uint8Array): OutboxEntry | undefined {
    return this.#entries.get(nameOf(updateId));
  }

  async delete(updateId: Uint8Array): Promise<void> {
    const name = nameOf(updateId);
    this.#entries.delete(name);
    await rm(join(this.#folder, name), { force: true });
  }

  entries(): OutboxEntry[] {
    return [...this.#entries.values()];
  }
}

const nameOf = (updateId: Uint8Array): string => `${Buffer.from(updateId).toString('hex')}${SUFFIX}`;

function encode({ header, payload }: OutboxEntry): Uint8Array {
  const head = toBinary(UpdateHeaderSchema, header);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(head.length);
  const body = Buffer.concat([length, head, payload]);
  return Buffer.concat([sha256(body), body]);
}

function decode(bytes: Uint8Array | undefined): OutboxEntry | undefined {
  if (bytes === undefined || bytes.length < DIGEST_BYTES + 4) return undefined;
  const body = bytes.subarray(DIGEST_BYTES);
  if (!equalBytes(sha256(body), bytes.subarray(0, DIGEST_BYTES))) return undefined;
  const length = new DataView(body.buffer, body.byteOffset).getUint32(0, true);
  return { header: fromBinary(UpdateHeaderSchema, body.subarray(4, 4 + length)), payload: body.slice(4 + length) };
}
