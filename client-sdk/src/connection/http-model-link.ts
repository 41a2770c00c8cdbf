/**
 * Models over HTTP, in Node and in browsers: a stream of hints, and the state read after each. Where the stream does not
 * hold, the state is polled until it does:
 *
 *   streaming -> (broken) reading now and then, trying the stream each time -> (for streamPatienceMs) polling
 *   polling -> (every streamRetryMs) trying the stream -> streaming
 */
import { create, fromBinary, toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import {
  ChannelSchema,
  isName,
  ManifestSchema,
  ReportUseRequestSchema,
  ReportUseResponseSchema,
  SignedChannelSchema,
  SignedManifestSchema,
  SignedVariantListSchema,
  type ClientReport,
  type ReportUseResponse,
  type SignedChannel,
  type SignedManifest,
  type SignedVariantList,
} from '@commonweight/proto';
import { asError, TransportError, type TransportCode } from '../errors.ts';
import { hex } from '../hex.ts';
import type { Sha256 } from '../platform/platform.ts';
import { Backoff, sleep } from './backoff.ts';
import { downloadBlob, type BlobChunk, type ReadBlob } from './download.ts';
import { EventStreamParser } from './event-stream.ts';
import type { ModelLink } from './model-link.ts';

export interface HttpLinkOptions {
  sha256: Sha256;
  newBackoff?: () => Backoff;
  /** Streams at once; watches beyond it poll. Browsers open six connections to an HTTP/1.1 host. */
  streamsMax?: number;
  /** How long a broken stream is tried again eagerly before it is left for polling. */
  streamPatienceMs?: number;
  /** How often the stream is tried while polling. */
  streamRetryMs?: number;
  pollMs?: number;
  /** A stream that says nothing for this long is broken; the coordinator shows itself every 15 s. */
  silenceMs?: number;
  random?: () => number;
  fetch?: typeof fetch;
  /** Whether an error of `fetch` says that nothing answered; one of a browser never says why. */
  saysUnreached?: (error: unknown) => boolean;
}

const REQUEST_MS = 20_000;
const RELEASE_BYTES_MAX = 1024 * 1024;
/** A server may ask to spread fetches over this long at most. */
const SPREAD_MS_MAX = 10 * 60_000;

const CODES: Readonly<Record<number, TransportCode>> = {
  404: 'not-found',
  408: 'deadline',
  409: 'already-exists',
  429: 'resource-exhausted',
  502: 'unavailable',
  503: 'unavailable',
  504: 'deadline',
};

/** The one protobuf message that a body is. */
async function messageIn<D extends DescMessage>(
  schema: D,
  response: Response,
  path: string,
  signal: AbortSignal,
): Promise<MessageShape<D>> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const bytes of bodyOf(response, signal)) {
    parts.push(bytes);
    if ((length += bytes.length) > RELEASE_BYTES_MAX)
      throw new TransportError('invalid', `${path} is longer than it can be`);
  }
  try {
    return fromBinary(schema, joined(parts, length), { readUnknownFields: false });
  } catch (cause) {
    throw new TransportError('corrupted', `${path} is not what it is called: ${(cause as Error).message}`, { cause });
  }
}

interface Hint {
  number: number;
  spreadMs: number;
}

/** A state and its tag. */
interface Known<T> {
  state: T;
  etag: string | null;
}

/** Something whose state has a number that rises, of which a stream tells. */
interface Feed<T> {
  /** Of the stream. */
  path: string;
  event: string;
  /** What the number is called in an event. */
  key: string;
  /** The state of a number at least; 0 is the newest. `known` again where the coordinator says that it is still the one. */
  read(number: number, signal: AbortSignal, known?: Known<T>): Promise<Known<T>>;
  /** What a state says its number is; unverified, and only for the server that sent it. */
  numberOf(state: T): number;
}

export class HttpModelLink implements ModelLink {
  readonly #base: string;
  readonly #options: Required<HttpLinkOptions>;
  readonly #closed = new AbortController();
  #streams = 0;

  /** `base` is `http://HOST:PORT`. */
  constructor(base: string, options: HttpLinkOptions) {
    this.#base = base.replace(/\/$/, '');
    this.#options = {
      newBackoff: () => new Backoff(),
      streamsMax: Infinity,
      streamPatienceMs: 120_000,
      streamRetryMs: 300_000,
      pollMs: 30_000,
      silenceMs: 40_000,
      random: Math.random,
      fetch: (...request) => fetch(...request),
      saysUnreached: () => true,
      ...options,
    };
  }

  async getModel(model: string, version: number): Promise<SignedManifest> {
    return (await this.#readModel(model, version, this.#closed.signal)).state;
  }

  #readModel(
    model: string,
    version: number,
    signal: AbortSignal,
    known?: Known<SignedManifest>,
  ): Promise<Known<SignedManifest>> {
    const path = `/v1/models/${encodeURIComponent(model)}${version === 0 ? '' : `?version=${version}`}`;
    // What a number names never changes.
    return this.#read(SignedManifestSchema, path, version === 0 ? 'no-cache' : 'default', signal, known);
  }

  async getChannel(model: string, channel: string): Promise<SignedChannel> {
    return (await this.#readChannel(model, channel, 0, this.#closed.signal)).state;
  }

  /** The revision is for caches that stand between: they have not heard of it yet. */
  #readChannel(
    model: string,
    channel: string,
    revision: number,
    signal: AbortSignal,
    known?: Known<SignedChannel>,
  ): Promise<Known<SignedChannel>> {
    const query = revision === 0 ? '' : `?revision=${revision}`;
    const path = `/v1/models/${encodeURIComponent(model)}/channels/${encodeURIComponent(channel)}${query}`;
    return this.#read(SignedChannelSchema, path, 'no-cache', signal, known);
  }

  async #read<D extends DescMessage>(
    schema: D,
    path: string,
    cache: 'default' | 'no-cache',
    signal: AbortSignal,
    known?: Known<MessageShape<D>>,
  ): Promise<Known<MessageShape<D>>> {
    const headers: Record<string, string> = typeof known?.etag === 'string' ? { 'If-None-Match': known.etag } : {};
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(REQUEST_MS)]);
    const response = await this.#ask(path, headers, deadline, cache);
    if (response.status === 304 && known !== undefined) return known;
    return { state: await messageIn(schema, response, path, deadline), etag: response.headers.get('etag') };
  }

  async getVariants(model: string, version: number): Promise<SignedVariantList | undefined> {
    const path = `/v1/models/${encodeURIComponent(model)}/variants?version=${version}`;
    const deadline = AbortSignal.any([this.#closed.signal, AbortSignal.timeout(REQUEST_MS)]);
    const response = await this.#ask(path, {}, deadline, 'no-cache');
    return response.status === 204 ? undefined : messageIn(SignedVariantListSchema, response, path, deadline);
  }

  watchModel(
    model: string,
    onRelease: (release: SignedManifest) => void,
    onDown?: (error: TransportError) => void,
  ): () => void {
    const feed: Feed<SignedManifest> = {
      path: `/v1/models/${model}/watch`,
      event: 'release',
      key: 'version',
      read: (version, signal, known) => this.#readModel(model, version, signal, known),
      numberOf: ({ manifest }) => numberIn(() => fromBinary(ManifestSchema, manifest).version),
    };
    return this.#watch(feed, [model], onRelease, onDown);
  }

  watchChannel(
    model: string,
    channel: string,
    onRecord: (record: SignedChannel) => void,
    onDown?: (error: TransportError) => void,
  ): () => void {
    const feed: Feed<SignedChannel> = {
      path: `/v1/models/${model}/channels/${channel}/watch`,
      event: 'channel',
      key: 'revision',
      read: (revision, signal, known) => this.#readChannel(model, channel, revision, signal, known),
      numberOf: ({ record }) => numberIn(() => fromBinary(ChannelSchema, record).revision),
    };
    return this.#watch(feed, [model, channel], onRecord, onDown);
  }

  #watch<T>(
    feed: Feed<T>,
    names: readonly string[],
    onState: (state: T) => void,
    onDown: ((error: TransportError) => void) | undefined,
  ): () => void {
    const wrong = names.find((name) => !isName(name));
    if (wrong !== undefined) throw new TransportError('invalid', `'${wrong}' is not a name: letters, digits, - and _`);
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.#closed.signal]);
    void this.#follow(feed, signal, onState, onDown);
    return () => stop.abort();
  }

  async #follow<T>(
    feed: Feed<T>,
    signal: AbortSignal,
    onState: (state: T) => void,
    onDown: ((error: TransportError) => void) | undefined,
  ): Promise<void> {
    const { newBackoff, streamsMax, streamPatienceMs, streamRetryMs, pollMs, random } = this.#options;
    const backoff = newBackoff();
    let known: Known<T> | undefined;
    let [lastId, streamlessSinceMs, streamTriedAtMs] = ['', performance.now(), -Infinity];
    let wasDown = false;
    const down = (error: unknown): void => {
      if (!signal.aborted) onDown?.(asTransportError(error));
    };
    const read = async (number: number): Promise<void> => {
      const [before, wanted] = [known, number === 0 ? known : undefined];
      const next = await feed.read(number, signal, wanted);
      // A read that a newer one overtook has nothing to tell.
      if (signal.aborted || known !== before) return;
      // The tag of a named state is not that of the newest.
      known = number === 0 ? next : { ...next, etag: null };
      // A stream that is opened from now on tells of newer ones only.
      lastId = String(number === 0 ? feed.numberOf(next.state) : number);
      onState(next.state);
    };
    while (!signal.aborted) {
      const isPolling = performance.now() - streamlessSinceMs >= streamPatienceMs;
      const isDue = !isPolling || performance.now() - streamTriedAtMs >= streamRetryMs;
      let failure: unknown;
      if (isDue && this.#streams < streamsMax) {
        streamTriedAtMs = performance.now();
        this.#streams++;
        try {
          await this.#stream(feed, lastId, signal, read, () => {
            backoff.connected();
            streamlessSinceMs = performance.now();
          });
          failure = new TransportError('unavailable', 'the coordinator ended the stream of releases');
        } catch (error) {
          failure = error;
        } finally {
          this.#streams--;
        }
        if (signal.aborted) return;
        down(failure);
        await backoff.wait(asTransportError(failure), signal);
      }
      if (signal.aborted) return;
      try {
        await read(0);
        if (wasDown) {
          // It was not the stream that did not hold: it is tried at once.
          [wasDown, streamTriedAtMs] = [false, -Infinity];
          continue;
        }
        if (isPolling || this.#streams >= streamsMax) await sleep(pollMs * (0.75 + random() / 2), signal);
      } catch (error) {
        wasDown = true;
        down(error);
        await backoff.wait(asTransportError(error), signal);
      }
    }
  }

  /** Follows one stream of hints to its end, reading the state after each; of hints that come meanwhile, the newest. */
  async #stream<T>(
    { path, event, key }: Feed<T>,
    lastId: string,
    signal: AbortSignal,
    read: (number: number) => Promise<void>,
    onAlive: () => void,
  ): Promise<void> {
    const stop = new AbortController();
    const abort = (): void => stop.abort();
    signal.addEventListener('abort', abort, { once: true });
    let silence = setTimeout(abort, this.#options.silenceMs);
    let failed: unknown;
    let [next, reading]: [Hint | undefined, Promise<void> | undefined] = [undefined, undefined];
    const follow = async (): Promise<void> => {
      try {
        for (let hint = next; hint !== undefined; hint = next) {
          next = undefined;
          await sleep(hint.spreadMs * this.#options.random(), stop.signal);
          if (stop.signal.aborted) return;
          await read((next ?? hint).number);
        }
      } catch (error) {
        // Hints that cannot be followed are as good as none: the stream is opened again.
        failed = error;
        abort();
      } finally {
        reading = undefined;
      }
    };
    try {
      const headers = { Accept: 'text/event-stream', ...(lastId === '' ? {} : { 'Last-Event-ID': lastId }) };
      const response = await this.#ask(path, headers, stop.signal, 'no-store');
      if (response.headers.get('content-type')?.startsWith('text/event-stream') !== true)
        throw new TransportError('invalid', 'what answers is not a coordinator: it sent no stream of events');
      const parser = new EventStreamParser();
      for await (const bytes of bodyOf(response, stop.signal)) {
        clearTimeout(silence);
        silence = setTimeout(abort, this.#options.silenceMs);
        onAlive();
        for (const { name, data } of parser.push(bytes)) {
          if (name !== event) continue;
          next = hintIn(data, key);
          reading ??= follow();
        }
      }
    } catch (error) {
      if (failed !== undefined) throw failed;
      throw stop.signal.aborted && !signal.aborted
        ? new TransportError('deadline', 'the stream of releases fell silent', { cause: error })
        : error;
    } finally {
      clearTimeout(silence);
      signal.removeEventListener('abort', abort);
      stop.abort();
      await reading;
    }
  }

  /** Also once the link is closed: the last report is sent then. */
  async report(reports: ClientReport[]): Promise<ReportUseResponse> {
    const path = '/v1/reports';
    const deadline = AbortSignal.timeout(REQUEST_MS);
    const body = toBinary(ReportUseRequestSchema, create(ReportUseRequestSchema, { reports }));
    const headers = { 'Content-Type': 'application/x-protobuf' };
    const response = await this.#ask(path, headers, deadline, 'no-store', body);
    return messageIn(ReportUseResponseSchema, response, path, deadline);
  }

  download(digest: Uint8Array, size: number, onProgress?: (bytes: number) => void): Promise<Uint8Array> {
    const read: ReadBlob = (blob, offset, signal, isAnew) =>
      this.#readBlob(blob, { offset, size, cache: isAnew ? 'reload' : 'default' }, signal);
    const { sha256, newBackoff } = this.#options;
    const signal = this.#closed.signal;
    return downloadBlob(read, digest, size, { sha256, signal, backoff: newBackoff(), onProgress });
  }

  async *#readBlob(
    digest: Uint8Array,
    { offset, size, cache }: { offset: number; size: number; cache: 'default' | 'reload' },
    signal: AbortSignal,
  ): AsyncGenerator<BlobChunk> {
    const headers: Record<string, string> = offset === 0 ? {} : { Range: `bytes=${offset}-` };
    const response = await this.#ask(`/v1/blobs/${hex(digest)}`, headers, signal, cache);
    // A cache that knows no ranges sends the whole.
    let at = response.status === 206 ? offset : 0;
    const totalSize = totalOf(response) ?? size;
    for await (const bytes of bodyOf(response, signal)) {
      const data = bytes.subarray(Math.min(bytes.length, Math.max(0, offset - at)));
      const from = Math.max(at, offset);
      at += bytes.length;
      if (data.length > 0) yield { offset: from, totalSize, data };
    }
  }

  async #ask(
    path: string,
    headers: Record<string, string>,
    signal: AbortSignal,
    cache: 'default' | 'no-cache' | 'no-store' | 'reload',
    body?: Uint8Array,
  ): Promise<Response> {
    let response: Response;
    try {
      response = await this.#options.fetch(`${this.#base}${path}`, {
        headers,
        signal,
        cache,
        ...(body === undefined ? {} : { method: 'POST', body: body as Uint8Array<ArrayBuffer> }),
      });
    } catch (cause) {
      throw fromFetch(cause, `${this.#base}${path}`, signal, this.#options.saysUnreached(cause));
    }
    if (response.ok || response.status === 304) return response;
    const text = await response.text().catch(() => '');
    const code = CODES[response.status] ?? (response.status >= 500 ? 'internal' : 'invalid');
    throw new TransportError(code, text.trim().slice(0, 1000) || `${path} was answered with ${response.status}`, {
      retryAfterMs: retryAfterMs(response),
    });
  }

  close(): Promise<void> {
    this.#closed.abort();
    return Promise.resolve();
  }
}

async function* bodyOf(response: Response, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value as Uint8Array;
    }
  } catch (cause) {
    throw fromFetch(cause, response.url, signal);
  } finally {
    // Left early, the connection is not to go on bringing bytes.
    await reader.cancel().catch(() => {});
  }
}

/** Bytes of the whole blob, where the headers tell: those of a compressed body do not. */
function totalOf({ status, headers }: Response): number | undefined {
  const text =
    status === 206 ? /\/(\d+)$/.exec(headers.get('content-range') ?? '')?.[1] : headers.get('content-length');
  return headers.has('content-encoding') || text === null || text === undefined ? undefined : Number(text);
}

/** Seconds, as coordinators and most proxies say it; the other form, a date, needs clocks that agree. */
function retryAfterMs({ headers }: Response): number {
  const seconds = headers.get('retry-after') ?? '';
  return /^\d{1,6}$/.test(seconds) ? 1000 * Number(seconds) : 0;
}

function hintIn(data: string, key: string): Hint {
  try {
    const { [key]: number, spreadMs = 0 } = JSON.parse(data) as Partial<Record<string, unknown>>;
    if (Number.isSafeInteger(number) && (number as number) > 0 && typeof spreadMs === 'number' && spreadMs >= 0)
      return { number: number as number, spreadMs: Math.min(spreadMs, SPREAD_MS_MAX) };
  } catch {
    // Said below, as for any other text that is no hint.
  }
  throw new TransportError('invalid', 'the stream of releases holds something else');
}

function joined(parts: readonly Uint8Array[], length: number): Uint8Array {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function numberIn(read: () => bigint): number {
  try {
    return Number(read());
  } catch {
    // Whoever verifies it says so.
    return 0;
  }
}

const asTransportError = (error: unknown): TransportError =>
  error instanceof TransportError ? error : new TransportError('internal', asError(error).message, { cause: error });

function fromFetch(cause: unknown, url: string, signal: AbortSignal, unreached = false): TransportError {
  if (cause instanceof TransportError) return cause;
  const { name, message, cause: inner } = asError(cause);
  if (name === 'TimeoutError') return new TransportError('deadline', `no answer from ${url} in time`, { cause });
  if (signal.aborted) return new TransportError('cancelled', `${url} was given up`, { cause });
  const why = inner instanceof Error && inner.message !== '' ? inner.message : message;
  return new TransportError('unavailable', `cannot reach ${url}: ${why}`, { cause, unreached });
}
