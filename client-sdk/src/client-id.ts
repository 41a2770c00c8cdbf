import { fromHex, hex } from './hex.ts';
import { readText, writeText, type Storage } from './platform/storage.ts';

const PATH = 'client-id';
const ID_BYTES = 16;
/** Characters of an id that an app gives. */
const ID_LENGTH_MAX = 128;

/** Who this installation is among all: what the app says, or random and kept. Rollouts are dealt out by it; it leaves the app only as a digest. */
export async function openClientId(given: string | undefined, storage: Storage): Promise<string> {
  if (given !== undefined) {
    if (given.length > 0 && given.length <= ID_LENGTH_MAX) return given;
    throw new TypeError(`clientId is a text of up to ${ID_LENGTH_MAX} characters`);
  }
  const kept = await readText(storage, PATH);
  // A damaged one is as good as none: another place in rollouts is all that it costs.
  if (kept !== undefined && fromHex(kept)?.length === ID_BYTES) return kept;
  const id = hex(crypto.getRandomValues(new Uint8Array(ID_BYTES)));
  await writeText(storage, PATH, id);
  return id;
}
