import type { SignedManifest, SignedVariantList } from '@commonweight/proto';
import type { TransportError } from '../errors.ts';
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
    let [stop, isStopped]: [() => void, boolean] = [() => {}, false];
    void this.#loading.then(
      (link) => {
        if (!isStopped) stop = link.watchModel(model, onRelease, onDown);
      },
      (error: unknown) => onDown?.(error as TransportError),
    );
    return () => {
      isStopped = true;
      stop();
    };
  }

  async getVariants(model: string, version: number): Promise<SignedVariantList | undefined> {
    return (await this.#loading).getVariants?.(model, version);
  }

  async download(digest: Uint8Array, size: number, onProgress?: (bytes: number) => void): Promise<Uint8Array> {
    return (await this.#loading).download(digest, size, onProgress);
  }

  async close(): Promise<void> {
    const link = await this.#loading.catch(() => undefined);
    await link?.close();
  }
}
