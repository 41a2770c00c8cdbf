import { asError, ModelError } from '../errors.ts';
import { hex } from '../hex.ts';
import type { PublishedForms } from '../runtime/variant.ts';
import { openRelease, type Release } from '../trust/release.ts';
import type { Life } from './life.ts';
import { fetchRelease, stage, type ReleaseBytes, type Staged, type TakeVariant } from './stage.ts';

/** Makes of a release what can serve, and keeps one that ended the process from being tried again and again. */
export class Loader {
  readonly #life: Life;

  constructor(life: Life) {
    this.#life = life;
  }

  /** Loads and checks a release. Where that ended the process twice, it is not tried a third time. */
  async load(release: Release, bytes: ReleaseBytes, published?: PublishedForms): Promise<Staged> {
    const { engine, name, options, quarantine } = this.#life;
    if (!(await quarantine.begin(release.content))) {
      const reason = `version ${release.version} of '${name}' ended the process while it was being activated, twice`;
      await quarantine.add(release.content, release.version, reason);
      await quarantine.ended();
      throw new ModelError(reason, { fault: 'crash' });
    }
    try {
      const takeVariant = this.#takeVariant(published);
      return await stage(release, bytes, engine, { golden: options.golden, takeVariant });
    } finally {
      await quarantine.ended();
    }
  }

  /** Loads what served until now once more: it was checked already. */
  async loadAgain(release: Release): Promise<Staged> {
    const { cache, engine, link } = this.#life;
    const bytes = await fetchRelease(release, cache.blobs, link);
    return stage(release, bytes, engine, { takeVariant: this.#takeVariant(undefined) });
  }

  /** The newest release on disk that is not in quarantine, loaded: before a bad one, unless a channel may go back. */
  async loadBefore(bad: Release): Promise<Staged | undefined> {
    const { cache, channel, crypto, emitter, link, name, pin, quarantine } = this.#life;
    for (const signed of await cache.load()) {
      try {
        const release = await openRelease(name, signed, pin, crypto);
        const isLater = channel === undefined && release.version >= bad.version;
        if (isLater || quarantine.has(release.content)) continue;
        return await this.load(release, await fetchRelease(release, cache.blobs, link));
      } catch (error) {
        emitter.emit('error', asError(error));
      }
    }
    return undefined;
  }

  /** Undefined where nobody would choose among them; forms that are not to be believed are told, and the version serves without. */
  async published(release: Release): Promise<PublishedForms | undefined> {
    const { crypto, emitter, link, pin, variants } = this.#life;
    if (variants?.needsExamples !== true) return undefined;
    try {
      // A page that serves float32 alone need not load what reads them.
      const { publishedForms } = await import('./published-forms.ts');
      return await publishedForms(release, { link, pin, crypto, variants });
    } catch (error) {
      emitter.emit('error', asError(error));
      return undefined;
    }
  }

  #takeVariant(published: PublishedForms | undefined): TakeVariant | undefined {
    const { recent, variants } = this.#life;
    if (variants === undefined) return undefined;
    return ({ model, graph }, onnx, contract) =>
      variants.choose({
        family: `${model} ${hex(graph.digest)}`,
        onnx,
        contract,
        recent: recent?.examples ?? [],
        ...(published === undefined ? {} : { published }),
      });
  }
}
