import { isName } from '@commonweight/proto';
import { ReleaseCache } from './cache/release-cache.ts';
import type { ModelLink } from './connection/model-link.ts';
import { ModelError } from './errors.ts';
import type { ModelOptions, Variants } from './model/life.ts';
import { Model, type AnyModel, type ModelTypes } from './model/model.ts';
import { Quarantine } from './model/quarantine.ts';
import type { Platform, TrustCrypto } from './platform/platform.ts';
import type { Storage } from './platform/storage.ts';
import type { Engine } from './runtime/engine.ts';
import type { VariantOptions } from './runtime/variant.ts';
import { KeyPin } from './trust/key-pin.ts';
import { Ratchet } from './trust/ratchet.ts';

/** How a client is set up; what is said of models here holds for those of which nothing else is said. */
export interface ConnectOptions extends Omit<ModelOptions, 'bootstrap' | 'golden'> {
  /** Folder for verified releases, one per coordinator (in a browser the name of a cache); with it an app starts without the network. */
  cacheDir?: string;
  /** Raw Ed25519 key of the coordinator. Without it the first key met is trusted. */
  trustKey?: Uint8Array;
  /** Threads of one prediction. */
  threads?: number;
  /** Which form of each version serves; without it, the one that was published. In Node only. */
  variant?: VariantOptions;
}

/** What a client is made of. */
export interface ClientParts {
  link: ModelLink;
  pin: KeyPin;
  engine: Engine;
  storage: Storage;
  crypto: TrustCrypto;
  variants?: Variants;
}

/** Live models of one coordinator. */
export class Client {
  readonly #parts: ClientParts;
  readonly #options: ConnectOptions;
  readonly #models = new Map<string, Promise<Model>>();
  readonly #opened = new Set<Model>();
  #closed = false;

  constructor(parts: ClientParts, options: ConnectOptions) {
    this.#parts = parts;
    this.#options = options;
  }

  /** The live model of a name, once it has a version to serve. Asked twice, the same one, with the options of the first time. */
  model<T extends ModelTypes = AnyModel>(name: string, options: ModelOptions = {}): Promise<Model<T>> {
    if (this.#closed) return Promise.reject(new ModelError('the client is closed'));
    if (!isName(name))
      return Promise.reject(new ModelError(`'${name}' is not a model's name: letters, digits, - and _`));
    let model = this.#models.get(name);
    if (model === undefined) {
      model = this.#open(name, { ...this.#options, ...options });
      this.#models.set(name, model);
      model.catch(() => this.#models.delete(name));
    }
    // The types are the app's word: what the model really takes is checked at each call.
    return model as Promise<Model<T>>;
  }

  async #open(name: string, options: ModelOptions): Promise<Model> {
    const { link, pin, engine, storage, crypto, variants } = this.#parts;
    const folder = `models/${name}`;
    const model = new Model(
      {
        name,
        link,
        engine,
        pin,
        crypto,
        ratchet: await Ratchet.open({ storage, path: `${folder}/highest` }),
        cache: new ReleaseCache(storage, folder, crypto.sha256, options.diskBytesMax),
        quarantine: await Quarantine.open(storage, folder, await engine.runtime()),
        ...(variants === undefined ? {} : { variants }),
      },
      options,
    );
    this.#opened.add(model);
    try {
      await model.start();
      return model;
    } catch (error) {
      this.#opened.delete(model);
      await model.close();
      throw error;
    }
  }

  /** Ends everything; predictions that run finish first. */
  async close(): Promise<void> {
    this.#closed = true;
    // At once, so that no prediction begins any more; the link's end is what ends their downloads.
    const closing = [...this.#opened].map((model) => model.close());
    await this.#parts.link.close();
    await Promise.all(closing);
    await Promise.allSettled(this.#models.values());
    await this.#parts.engine.close();
  }
}

/** A client made of what a platform has. */
export async function connectOn(platform: Platform, url: string, options: ConnectOptions): Promise<Client> {
  const { cacheDir, trustKey, threads = 1, variant } = options;
  if (variant !== undefined && platform.openVariants === undefined)
    throw new TypeError('forms of a version are made and measured in Node only: leave out `variant`');
  const storage = platform.openStorage(cacheDir);
  const kept = cacheDir === undefined ? {} : { storage };
  const pin = await KeyPin.open({ given: trustKey, ...kept });
  const parts = { link: platform.openLink(url), pin, engine: platform.openEngine({ threads }), storage };
  const variants = variant && platform.openVariants?.(variant, { threads, place: cacheDir });
  return new Client({ ...parts, crypto: platform.crypto, ...(variants && { variants }) }, options);
}
