/** The models of one process by name: those that serve, and those that are on their way. */
import { Backoff, sleep, type Client } from '@commonweight/client-sdk';
import { isName } from '@commonweight/proto';
import type { BatcherOptions } from './batching/batcher.ts';
import { quoted, ServingError } from './errors.ts';
import type { ServingEvent } from './events.ts';
import { MODELS_MAX } from './limits.ts';
import { Metrics } from './metrics.ts';
import { ServedModel } from './served-model.ts';

export interface ServedModelsParts {
  client: Pick<Client, 'model'>;
  options: BatcherOptions;
  tell: (event: ServingEvent) => void;
}

/** A model that has no version yet, and why. */
interface Coming {
  why: string;
}

export class ServedModels {
  readonly metrics: Metrics = new Metrics();
  readonly #parts: ServedModelsParts;
  readonly #models = new Map<string, ServedModel | Coming>();
  readonly #opening = new Set<Promise<void>>();
  readonly #closed = new AbortController();

  constructor(parts: ServedModelsParts) {
    this.#parts = parts;
  }

  /** Serves a model as soon as it can be had, and goes on trying until then. Asked twice, it is served once. */
  serve(name: string): void {
    if (!isName(name)) throw new TypeError(`'${name}' is not a model's name: letters, digits, - and _`);
    if (this.#models.has(name) || this.#closed.signal.aborted) return;
    if (this.#models.size >= MODELS_MAX) throw new TypeError(`at most ${MODELS_MAX} models are served by one process`);
    this.#models.set(name, { why: 'it is being fetched' });
    const opening = this.#open(name);
    this.#opening.add(opening);
    void opening.finally(() => this.#opening.delete(opening));
  }

  async #open(name: string): Promise<void> {
    const { client, options, tell } = this.#parts;
    const backoff = new Backoff({ maxMs: 10_000 });
    while (!this.#closed.signal.aborted) {
      try {
        const model = await client.model(name);
        if (this.#closed.signal.aborted) return;
        this.#models.set(name, new ServedModel(model, options, this.metrics, tell));
        return;
      } catch (error) {
        if (this.#closed.signal.aborted) return;
        const why = (error as Error).message;
        const retryMs = Math.round(backoff.nextMs());
        this.#models.set(name, { why });
        tell({ type: 'waiting', model: name, why, retryMs });
        await sleep(retryMs, this.#closed.signal);
      }
    }
  }

  /** Whether every model that was asked for serves. */
  get isReady(): boolean {
    return this.#models.size > 0 && [...this.#models.values()].every((model) => model instanceof ServedModel);
  }

  /** Those that serve. */
  get serving(): ServedModel[] {
    return [...this.#models.values()].filter((model) => model instanceof ServedModel);
  }

  /** Those that do not yet. */
  get coming(): { name: string; why: string }[] {
    return [...this.#models].flatMap(([name, model]) =>
      model instanceof ServedModel ? [] : [{ name, why: model.why }],
    );
  }

  /** Throws ServingError where there is no such model, or none yet. */
  get(name: string): ServedModel {
    const model = this.#models.get(name);
    if (model instanceof ServedModel) return model;
    if (model !== undefined) throw new ServingError('not-ready', `'${name}' has no version yet: ${model.why}`);
    const names = [...this.#models.keys()].map((known) => `'${known}'`).join(', ');
    throw new ServingError(
      'unknown-model',
      `model ${quoted(name)} is not served here; ${names === '' ? 'none is yet' : `${names} ${this.#models.size === 1 ? 'is' : 'are'}`}`,
    );
  }

  /** Throws ServingError where every model that serves would refuse a request, whichever it is for. */
  checkRoom(): void {
    const { serving } = this;
    if (serving.every(({ isFull }) => isFull)) serving[0]?.checkRoom();
  }

  /** Whether the name may stand in a metric's label. */
  labelOf(name: string): string {
    return this.#models.has(name) ? name : '';
  }

  metricsText(): string {
    return this.metrics.text(
      this.serving.map((model) => ({
        model: model.name,
        version: model.version,
        variant: model.variant.name,
        engine: model.variant.engine,
        queue: model.queueLength,
        batches: model.batching.isBatchable,
      })),
    );
  }

  /** Refuses what waits. The client is closed by who opened it. */
  async close(): Promise<void> {
    this.#closed.abort();
    for (const model of this.serving) model.close();
    await Promise.all(this.#opening);
  }
}
