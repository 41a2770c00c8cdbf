import {
  ModelService,
  type ClientReport,
  type ReportUseResponse,
  type SignedChannel,
  type SignedManifest,
  type SignedVariantList,
} from '@commonweight/proto';
import { asError, TransportError } from '../errors.ts';
import { Backoff } from './backoff.ts';
import { downloadBlob, type BlobChunk } from './download.ts';
import type { GrpcChannel } from './grpc-channel.ts';
import type { ModelLink } from './model-link.ts';
import { sha256 } from '../trust/sha256.ts';
import { recordIn, releaseIn } from './release-in.ts';

const REPORT_MS = 10_000;

/** Models over gRPC. */
export class GrpcModelLink implements ModelLink {
  readonly #channel: GrpcChannel;
  readonly #newBackoff: () => Backoff;
  readonly #closed = new AbortController();

  constructor(channel: GrpcChannel, newBackoff: () => Backoff = () => new Backoff()) {
    this.#channel = channel;
    this.#newBackoff = newBackoff;
  }

  async getModel(model: string, version: number): Promise<SignedManifest> {
    const request = { model, version: BigInt(version) };
    return releaseIn(await this.#channel.unary(ModelService.method.getModel, request, { signal: this.#closed.signal }));
  }

  async getVariants(model: string, version: number): Promise<SignedVariantList | undefined> {
    const request = { model, version: BigInt(version) };
    const { signal } = this.#closed;
    return (await this.#channel.unary(ModelService.method.getVariants, request, { signal })).variants;
  }

  watchModel(
    model: string,
    onRelease: (release: SignedManifest) => void,
    onDown?: (error: TransportError) => void,
  ): () => void {
    const open = (signal: AbortSignal): AsyncIterable<SignedManifest> =>
      mapped(this.#channel.serverStream(ModelService.method.watchModel, { model }, { signal }), releaseIn);
    return this.#watch(open, onRelease, onDown);
  }

  async getChannel(model: string, channel: string): Promise<SignedChannel> {
    const { signal } = this.#closed;
    return recordIn(await this.#channel.unary(ModelService.method.getChannel, { model, channel }, { signal }));
  }

  watchChannel(
    model: string,
    channel: string,
    onRecord: (record: SignedChannel) => void,
    onDown?: (error: TransportError) => void,
  ): () => void {
    const open = (signal: AbortSignal): AsyncIterable<SignedChannel> =>
      mapped(this.#channel.serverStream(ModelService.method.watchChannel, { model, channel }, { signal }), recordIn);
    return this.#watch(open, onRecord, onDown);
  }

  #watch<T>(
    open: (signal: AbortSignal) => AsyncIterable<T>,
    onState: (state: T) => void,
    onDown: ((error: TransportError) => void) | undefined,
  ): () => void {
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.#closed.signal]);
    void this.#follow(open, onState, onDown, signal);
    return () => stop.abort();
  }

  /** Opens the stream again for ever; its first message is the newest state. */
  async #follow<T>(
    open: (signal: AbortSignal) => AsyncIterable<T>,
    onState: (state: T) => void,
    onDown: ((error: TransportError) => void) | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const backoff = this.#newBackoff();
    while (!signal.aborted) {
      let failure = new TransportError('unavailable', 'the coordinator ended the stream of releases');
      try {
        for await (const state of open(signal)) {
          if (signal.aborted) return;
          backoff.connected();
          onState(state);
        }
      } catch (error) {
        failure = error instanceof TransportError ? error : new TransportError('internal', asError(error).message);
      }
      if (signal.aborted) return;
      onDown?.(failure);
      await backoff.wait(failure, signal);
    }
  }

  report(reports: ClientReport[]): Promise<ReportUseResponse> {
    return this.#channel.unary(ModelService.method.reportUse, { reports }, { deadlineMs: REPORT_MS });
  }

  download(digest: Uint8Array, size: number, onProgress?: (bytes: number) => void): Promise<Uint8Array> {
    const read = (blob: Uint8Array, offset: number, signal: AbortSignal): AsyncIterable<BlobChunk> =>
      this.#read(blob, offset, signal);
    const [signal, backoff] = [this.#closed.signal, this.#newBackoff()];
    return downloadBlob(read, digest, size, { sha256, signal, backoff, onProgress });
  }

  async *#read(digest: Uint8Array, offset: number, signal: AbortSignal): AsyncGenerator<BlobChunk> {
    const request = { digest, offset: BigInt(offset) };
    for await (const chunk of this.#channel.serverStream(ModelService.method.download, request, { signal })) {
      yield { offset: Number(chunk.offset), totalSize: Number(chunk.totalSize), data: chunk.data };
    }
  }

  close(): Promise<void> {
    this.#closed.abort();
    this.#channel.close();
    return Promise.resolve();
  }
}

async function* mapped<I, O>(messages: AsyncIterable<I>, to: (message: I) => O): AsyncGenerator<O> {
  for await (const message of messages) yield to(message);
}
