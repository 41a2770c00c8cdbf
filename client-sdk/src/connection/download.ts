import { equalBytes } from '@commonweight/proto';
import { TransportError, asError } from '../errors.ts';
import { hex } from '../hex.ts';
import type { Sha256 } from '../platform/platform.ts';
import { Backoff, sleep } from './backoff.ts';

/** One piece of a blob. */
export interface BlobChunk {
  offset: number;
  totalSize: number;
  data: Uint8Array;
}

/** Reads a blob from an offset to its end, past all caches where `isAnew`; an abort ends the iteration. */
export type ReadBlob = (
  digest: Uint8Array,
  offset: number,
  signal: AbortSignal,
  isAnew: boolean,
) => AsyncIterable<BlobChunk>;

export interface DownloadOptions {
  sha256: Sha256;
  /** Hears how many bytes are here, after each piece. */
  onProgress?: ((bytes: number) => void) | undefined;
  signal?: AbortSignal;
  backoff?: Backoff;
  /** Without a byte for this long a try is given up and resumed. */
  idleMs?: number;
  /** Tries in a row that brought nothing new. */
  triesMax?: number;
}

const COPIES_MAX = 3;

/** The blob of a digest, resumed where a try broke off, and fetched again where the bytes are not those of the digest. */
export async function downloadBlob(
  read: ReadBlob,
  digest: Uint8Array,
  size: number,
  options: DownloadOptions,
): Promise<Uint8Array> {
  const { signal, backoff = new Backoff() } = options;
  for (let copy = 1; copy <= COPIES_MAX; copy += 1) {
    // What came damaged may be in a cache by now.
    const isAnew = copy > 1;
    const blob = await fetchWhole((from, stop) => read(digest, from, stop, isAnew), digest, size, {
      ...options,
      backoff,
    });
    if (equalBytes(await options.sha256(blob), digest)) return blob;
    if (copy < COPIES_MAX) await sleep(backoff.nextMs(), signal);
  }
  throw new TransportError(
    'corrupted',
    `blob ${short(digest)} came damaged ${COPIES_MAX} times; see to the network or the coordinator's disk`,
  );
}

async function fetchWhole(
  read: (offset: number, signal: AbortSignal) => AsyncIterable<BlobChunk>,
  digest: Uint8Array,
  size: number,
  { signal, backoff = new Backoff(), idleMs = 20_000, triesMax = 5, onProgress }: DownloadOptions,
): Promise<Uint8Array> {
  const blob = new Uint8Array(size);
  let held = 0;
  let fruitless = 0;
  while (held < size) {
    const before = held;
    const failure = await fetchSome();
    if (signal?.aborted === true) throw new TransportError('cancelled', `download of ${short(digest)} was given up`);
    if (failure instanceof TransportError && !failure.passing) throw failure;
    fruitless = held > before ? 0 : fruitless + 1;
    if (fruitless >= triesMax) {
      throw new TransportError('unavailable', `download of ${short(digest)} stands still at ${held} of ${size} bytes`, {
        cause: failure,
        unreached: failure instanceof TransportError && failure.unreached,
      });
    }
    if (held > before) backoff.connected();
    if (held < size) await backoff.wait(failure instanceof TransportError ? failure : {}, signal);
  }
  return blob;

  /** One try: appends chunks to the blob until the end or a failure, which it returns. */
  async function fetchSome(): Promise<Error | undefined> {
    const stop = new AbortController();
    const abort = (): void => stop.abort();
    signal?.addEventListener('abort', abort, { once: true });
    let timer = setTimeout(abort, idleMs);
    try {
      for await (const { offset, totalSize, data } of read(held, stop.signal)) {
        clearTimeout(timer);
        timer = setTimeout(abort, idleMs);
        // The signed manifest said the size: anything else would be another blob, or an endless one.
        if (totalSize !== size || offset !== held || held + data.length > size) {
          return new TransportError(
            'invalid',
            `blob ${short(digest)} is not the ${size} bytes that its manifest names`,
          );
        }
        blob.set(data, held);
        held += data.length;
        onProgress?.(held);
        if (held === size) return undefined;
      }
      return undefined;
    } catch (error) {
      return stop.signal.aborted
        ? new TransportError('deadline', 'no bytes in time', { cause: error })
        : asError(error);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      stop.abort();
    }
  }
}

const short = (digest: Uint8Array): string => hex(digest).slice(0, 16);
