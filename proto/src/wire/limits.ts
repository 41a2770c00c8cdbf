/** Bytes of one chunk of a blob or an update; below the 1 MB payload limit of a stock NATS server. */
export const CHUNK_BYTES_MAX: number = 512 * 1024;
/** Bytes of one message on any link: a chunk and its header. */
export const MESSAGE_BYTES_MAX: number = 1024 * 1024 - 4096;
/** Weights up to this size travel inside the assignment, which saves small models a download. */
export const WEIGHTS_INLINE_BYTES_MAX: number = 128 * 1024;
/** Bytes of one blob (graph or weights) that anybody may store or ask for. */
export const BLOB_BYTES_MAX: number = 2 ** 31 - 1;
/** Characters of a name (model, task, agent). */
export const NAME_LENGTH_MAX = 64;
/** Labels of an agent, and conditions that it names. */
export const LABELS_MAX = 32;
/** Ids in one offer of an agent's outbox. */
export const OFFER_UPDATES_MAX = 64;

/** True for names that are safe in a NATS subject, a URL and a file name: letters, digits, `-` and `_`. */
export function isName(name: string): boolean {
  return name.length <= NAME_LENGTH_MAX && /^[A-Za-z0-9_-]+$/.test(name);
}
