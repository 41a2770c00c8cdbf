import type {
  ClientReport,
  ReportUseResponse,
  SignedChannel,
  SignedManifest,
  SignedVariantList,
} from '@commonweight/proto';
import { TransportError } from '../errors.ts';
import type { ModelLink } from './model-link.ts';

/** A link whose code is still being loaded. */
export class LaterLink implements ModelLink {
  readonly #loading: Promise<ModelLink>;

  constructor(loading: Promise<ModelLink>) {
    this.#loading = loading;
    this.#loading.catch(() => {});
  }

  async getModel(model: string, version: number): Promise<SignedManifest> {
    return (await this.#loading).getModel(model, version);
  }

  watchModel(
    model: string,
    onRelease: (release: SignedManifest) => void,
    onDown?: (error: TransportError) => void,
  ): () => void {
    return this.#watch((link) => link.watchModel(model, onRelease, onDown), onDown);
  }

  async getChannel(model: string, channel: string): Promise<SignedChannel> {
    const link = await this.#loading;
    if (link.getChannel === undefined) throw unknown();
    return link.getChannel(model, channel);
  }

  watchChannel(
    model: string,
    channel: string,
    onRecord: (record: SignedChannel) => void,
    onDown?: (error: TransportError) => void,
  ): () => void {
    return this.#watch((link) => link.watchChannel?.(model, channel, onRecord, onDown), onDown);
  }

  #watch(
    begin: (link: ModelLink) => (() => void) | undefined,
    onDown: ((error: TransportError) => void) | undefined,
  ): () => void {
    let [stop, isStopped]: [(() => void) | undefined, boolean] = [undefined, false];
    void this.#loading.then(
      (link) => {
        if (isStopped) return;
        stop = begin(link);
        if (stop === undefined) onDown?.(unknown());
      },
      (error: unknown) => onDown?.(error as TransportError),
    );
    return () => {
      isStopped = true;
      stop?.();
    };
  }

  async getVariants(model: string, version: number): Promise<SignedVariantList | undefined> {
    return (await this.#loading).getVariants?.(model, version);
  }

  async report(reports: ClientReport[]): Promise<ReportUseResponse> {
    const link = await this.#loading;
    if (link.report === undefined) throw new TransportError('invalid', 'this link takes no reports');
    return link.report(reports);
  }

  async download(digest: Uint8Array, size: number, onProgress?: (bytes: number) => void): Promise<Uint8Array> {
    return (await this.#loading).download(digest, size, onProgress);
  }

  async close(): Promise<void> {
    const link = await this.#loading.catch(() => undefined);
    await link?.close();
  }
}

const unknown = (): TransportError => new TransportError('invalid', 'this link knows no channels');
