import { join } from 'node:path';
import { isName } from '@commonweight/proto';
import { ReleaseCache } from './cache/release-cache.ts';
import { openModelLink, type ModelLink } from './connection/model-link.ts';
import { ModelError } from './errors.ts';
import { Model } from './model/model.ts';
import { OrtEngine } from './runtime/ort-engine.ts';
import { KeyPin } from './trust/key-pin.ts';
import { Ratchet } from './trust/ratchet.ts';

export interface ConnectOptions {
  /** Folder for verified releases, one per coordinator; with it an app starts without the network. */
  cacheDir?: string;
  /** Raw Ed25519 key of the coordinator. Without it the first key met is trusted. */
  trustKey?: Uint8Array;
  /** Threads of one prediction. */
  threads?: number;
  /** How long `model()` waits for a first version. */
  readyTimeoutMs?: number;
  /** Silence after which a model says that it is stale. */
  staleAfterMs?: number;
}

/** Live models of one coordinator. */
export class Client {
  readonly #link: ModelLink;
  readonly #pin: KeyPin;
  readonly #options: ConnectOptions;
  readonly #engine: OrtEngine;
  readonly #models = new Map<string, Promise<Model>>();
  readonly #opened = new Set<Model>();
  #closed = false;

  constructor(link: ModelLink, pin: KeyPin, options: ConnectOptions) {
    this.#link = link;
    this.#pin = pin;
    this.#options = options;
    this.#engine = new OrtEngine({ threads: options.threads ?? 1 });
  }

  /** The live model of a name, once it has a version to serve. Asked twice, the same one. */
  model(name: string): Promise<Model> {
    if (this.#closed) return Promise.reject(new ModelError('the client is closed'));
    if (!isName(name))
      return Promise.reject(new ModelError(`'${name}' is not a model's name: letters, digits, - and _`));
    let model = this.#models.get(name);
    if (model === undefined) {
      model = this.#open(name);
      this.#models.set(name, model);
      model.catch(() => this.#models.delete(name));
    }
    return model;
  }

  async #open(name: string): Promise<Model> {
    const { cacheDir, readyTimeoutMs = 30_000, staleAfterMs } = this.#options;
    const folder = cacheDir === undefined ? undefined : join(cacheDir, 'models', name);
    const model = new Model({
      name,
      link: this.#link,
      engine: this.#engine,
      pin: this.#pin,
      ratchet: await Ratchet.open(folder === undefined ? undefined : join(folder, 'highest')),
      cache: new ReleaseCache(folder),
      ...(staleAfterMs === undefined ? {} : { staleAfterMs }),
    });
    this.#opened.add(model);
    try {
      await model.start(readyTimeoutMs);
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
    await this.#link.close();
    await Promise.all(closing);
    await Promise.allSettled(this.#models.values());
    await this.#engine.close();
  }
}

/** Live models of the coordinator at `grpc://127.0.0.1:PORT` or `nats://127.0.0.1:PORT`. */
export async function connect(url: string, options: ConnectOptions = {}): Promise<Client> {
  const { cacheDir, trustKey } = options;
  const pin = await KeyPin.open(cacheDir === undefined ? undefined : join(cacheDir, 'trusted-key'), trustKey);
  return new Client(openModelLink(url), pin, options);
}
