import type { Storage } from './storage.ts';

/** The Cache API of browsers, as much of it as is used here. */
interface WebCache {
  match(url: string): Promise<Response | undefined>;
  put(url: string, response: Response): Promise<void>;
  delete(url: string): Promise<boolean>;
  keys(): Promise<readonly { url: string }[]>;
}

const { caches } = globalThis as unknown as { caches?: { open(name: string): Promise<WebCache> } };

/** No request ever goes there: the Cache API wants keys that look like addresses. */
const BASE = 'https://releases.commonweight.invalid/';

/** Files in a cache of the page's origin. It takes or leaves an entry whole. */
export class CacheStorage implements Storage {
  readonly #name: string;
  readonly #opening: Promise<WebCache>;

  constructor(name: string) {
    this.#name = `commonweight ${name}`;
    this.#opening =
      caches?.open(this.#name) ??
      Promise.reject(new Error('this page may keep nothing: serve it over https, or from localhost'));
    this.#opening.catch(() => {});
  }

  where(path: string): string {
    return `'${path}' of the browser's cache '${this.#name}'`;
  }

  async read(path: string): Promise<Uint8Array | undefined> {
    const response = await (await this.#opening).match(BASE + path);
    return response === undefined ? undefined : new Uint8Array(await response.arrayBuffer());
  }

  async write(path: string, bytes: Uint8Array): Promise<void> {
    const cache = await this.#opening;
    await cache.put(BASE + path, new Response(bytes as Uint8Array<ArrayBuffer>));
  }

  async remove(path: string): Promise<void> {
    await (await this.#opening).delete(BASE + path);
  }

  async list(folder: string): Promise<string[]> {
    const start = `${BASE}${folder}/`;
    const entries = await (await this.#opening).keys();
    const names = entries.filter(({ url }) => url.startsWith(start)).map(({ url }) => url.slice(start.length));
    return names.filter((name) => !name.includes('/'));
  }
}
