import { fromBinary } from '@bufbuild/protobuf';
import {
  channelSubject,
  CHUNK_BYTES_MAX,
  GetChannelRequestSchema,
  GetChannelResponseSchema,
  GetModelRequestSchema,
  GetModelResponseSchema,
  GetVariantsRequestSchema,
  GetVariantsResponseSchema,
  isName,
  MODEL_CHANNEL_SUBJECT,
  MODEL_DOWNLOAD_SUBJECT,
  MODEL_GET_SUBJECT,
  MODEL_REPORT_SUBJECT,
  MODEL_VARIANTS_SUBJECT,
  ModelServiceDownloadRequestSchema,
  ModelServiceDownloadResponseSchema,
  releaseSubject,
  ReportUseRequestSchema,
  ReportUseResponseSchema,
  WatchChannelResponseSchema,
  WatchModelResponseSchema,
  type ClientReport,
  type ReportUseResponse,
  type SignedChannel,
  type SignedManifest,
  type SignedVariantList,
} from '@commonweight/proto';
import type { NatsConnection } from '@nats-io/nats-core';
import { asError, TransportError } from '../errors.ts';
import type { Sha256 } from '../platform/platform.ts';
import { Backoff, sleep } from './backoff.ts';
import { chunksAhead } from './chunk-window.ts';
import { downloadBlob, type BlobChunk } from './download.ts';
import type { ModelLink } from './model-link.ts';
import { NatsRequests, type OpenNatsOptions } from './nats-request.ts';
import { recordIn, releaseIn } from './release-in.ts';

/** A lost announcement is made up for by reading the state this often. */
const READ_EVERY_MS = 30_000;
const CONNECT_WAIT_MS = 5000;

interface Watch {
  /** Reads the state now instead of at the next turn. */
  wake(): void;
  onDown: ((error: TransportError) => void) | undefined;
}

/** Something whose state is announced and can be read. */
interface Feed<T> {
  subject: string;
  read(): Promise<T>;
  decode(data: Uint8Array): T;
}

export interface NatsModelLinkOptions {
  sha256: Sha256;
  /** How this platform connects: TCP, or WebSocket in a browser. */
  open: (url: string, options: OpenNatsOptions) => Promise<NatsConnection>;
  newBackoff?: () => Backoff;
}

/** Models over NATS. */
export class NatsModelLink implements ModelLink {
  readonly #url: string;
  readonly #sha256: Sha256;
  readonly #newBackoff: () => Backoff;
  readonly #closed = new AbortController();
  readonly #watches = new Set<Watch>();
  readonly #connecting: Promise<NatsConnection>;
  readonly #requests: Promise<NatsRequests>;

  constructor(url: string, { sha256, open, newBackoff = () => new Backoff() }: NatsModelLinkOptions) {
    this.#url = url;
    this.#sha256 = sha256;
    this.#newBackoff = newBackoff;
    this.#connecting = open(url, {
      signal: this.#closed.signal,
      backoff: newBackoff(),
      onFailure: (error) => this.#tellDown(error),
    });
    this.#requests = this.#connecting.then((connection) => new NatsRequests(connection));
    this.#requests.catch(() => {});
    this.#connecting.then(
      (connection) => void this.#follow(connection),
      () => {},
    );
  }

  async getModel(model: string, version: number): Promise<SignedManifest> {
    const schemas = { input: GetModelRequestSchema, output: GetModelResponseSchema };
    const requests = await this.#connected();
    return releaseIn(await requests.ask(MODEL_GET_SUBJECT, schemas, { model, version: BigInt(version) }));
  }

  async getVariants(model: string, version: number): Promise<SignedVariantList | undefined> {
    const schemas = { input: GetVariantsRequestSchema, output: GetVariantsResponseSchema };
    const request = { model, version: BigInt(version) };
    const requests = await this.#connected();
    return (await requests.ask(MODEL_VARIANTS_SUBJECT, schemas, request)).variants;
  }

  watchModel(
    model: string,
    onRelease: (release: SignedManifest) => void,
    onDown?: (error: TransportError) => void,
  ): () => void {
    return this.#watch(
      {
        subject: releaseSubject(model),
        read: () => this.getModel(model, 0),
        decode: (data) => releaseIn(fromBinary(WatchModelResponseSchema, data, { readUnknownFields: false })),
      },
      [model],
      onRelease,
      onDown,
    );
  }

  async getChannel(model: string, channel: string): Promise<SignedChannel> {
    const schemas = { input: GetChannelRequestSchema, output: GetChannelResponseSchema };
    const requests = await this.#connected();
    return recordIn(await requests.ask(MODEL_CHANNEL_SUBJECT, schemas, { model, channel }));
  }

  watchChannel(
    model: string,
    channel: string,
    onRecord: (record: SignedChannel) => void,
    onDown?: (error: TransportError) => void,
  ): () => void {
    return this.#watch(
      {
        subject: channelSubject(model, channel),
        read: () => this.getChannel(model, channel),
        decode: (data) => recordIn(fromBinary(WatchChannelResponseSchema, data, { readUnknownFields: false })),
      },
      [model, channel],
      onRecord,
      onDown,
    );
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
    void this.#keepUp(feed, onState, onDown, signal);
    return () => stop.abort();
  }

  /** An announcement is delivered at once; the state is read on start, on reconnect and now and then. */
  async #keepUp<T>(
    { subject, read, decode }: Feed<T>,
    onState: (state: T) => void,
    onDown: ((error: TransportError) => void) | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const backoff = this.#newBackoff();
    let woken = new AbortController();
    const watch: Watch = { wake: () => woken.abort(), onDown };
    this.#watches.add(watch);
    const connection = await this.#connecting.catch(() => undefined);
    if (connection === undefined || signal.aborted) return void this.#watches.delete(watch);
    const subscription = connection.subscribe(subject, {
      callback: (error, message) => {
        if (error !== null || signal.aborted) return;
        try {
          onState(decode(message.data));
        } catch {
          // Nothing that was meant: the state is read instead.
          watch.wake();
        }
      },
    });
    while (!signal.aborted) {
      woken = new AbortController();
      let waitMs = READ_EVERY_MS * (0.75 + Math.random() / 2);
      try {
        const state = await read();
        if (signal.aborted) break;
        backoff.connected();
        onState(state);
      } catch (error) {
        if (signal.aborted) break;
        const failure =
          error instanceof TransportError ? error : new TransportError('internal', asError(error).message);
        onDown?.(failure);
        waitMs = backoff.nextMs(failure);
      }
      await sleep(waitMs, AbortSignal.any([woken.signal, signal]));
    }
    subscription.unsubscribe();
    this.#watches.delete(watch);
  }

  /** Tells watches when the connection breaks, and has them read the state again when it is back. */
  async #follow(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) {
      if (status.type === 'disconnect')
        this.#tellDown(new TransportError('unavailable', `lost ${this.#url}`, { unreached: true }));
      if (status.type === 'reconnect') for (const watch of this.#watches) watch.wake();
    }
  }

  #tellDown(error: TransportError): void {
    for (const { onDown } of this.#watches) onDown?.(error);
  }

  /** Requests over the connection, waiting a little for the first one. */
  async #connected(): Promise<NatsRequests> {
    const timeout = new AbortController();
    const late = sleep(CONNECT_WAIT_MS, timeout.signal).then(() => undefined);
    const requests = await Promise.race([this.#requests, late]);
    timeout.abort();
    if (requests === undefined)
      throw new TransportError('unavailable', `cannot reach ${this.#url}`, { unreached: true });
    return requests;
  }

  async report(reports: ClientReport[]): Promise<ReportUseResponse> {
    const schemas = { input: ReportUseRequestSchema, output: ReportUseResponseSchema };
    const requests = await this.#connected();
    return requests.ask(MODEL_REPORT_SUBJECT, schemas, { reports });
  }

  download(digest: Uint8Array, size: number, onProgress?: (bytes: number) => void): Promise<Uint8Array> {
    const read = (blob: Uint8Array, offset: number, signal: AbortSignal): AsyncIterable<BlobChunk> =>
      this.#read(blob, offset, size, signal);
    const [signal, backoff] = [this.#closed.signal, this.#newBackoff()];
    return downloadBlob(read, digest, size, { sha256: this.#sha256, signal, backoff, onProgress });
  }

  async *#read(digest: Uint8Array, from: number, size: number, signal: AbortSignal): AsyncGenerator<BlobChunk> {
    const requests = await this.#connected();
    const schemas = { input: ModelServiceDownloadRequestSchema, output: ModelServiceDownloadResponseSchema };
    const ask = async (offset: number) => {
      const length = BigInt(Math.min(CHUNK_BYTES_MAX, size - offset));
      const { data, totalSize } = await requests.ask(MODEL_DOWNLOAD_SUBJECT, schemas, {
        digest,
        offset: BigInt(offset),
        length,
      });
      return { data, totalSize: Number(totalSize) };
    };
    yield* chunksAhead(ask, { from, size, chunkBytes: CHUNK_BYTES_MAX, signal });
  }

  async close(): Promise<void> {
    this.#closed.abort();
    const connection = await this.#connecting.catch(() => undefined);
    await connection?.close();
  }
}
