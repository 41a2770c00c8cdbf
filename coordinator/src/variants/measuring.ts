import { fromBinary } from '@bufbuild/protobuf';
import { VariantListSchema, VariantState, type SignedManifest, type SignedVariantList } from '@commonweight/proto';
import type { FormMeasured, MeasurementWish } from './measurements.ts';

export interface MeasuringWorld {
  log(line: string): void;
  /** Whether a task of the model has agents with data for it. */
  isTrained(model: string): boolean;
  /** The newest version of a model and its forms. */
  newest(model: string): Promise<{ version: number; release: SignedManifest; variants: SignedVariantList | undefined }>;
  /** Asks agents. Throws ServiceError, or the signal's reason. */
  measure(wish: MeasurementWish, signal: AbortSignal): Promise<FormMeasured[]>;
  /** Takes what was found into the list of the version's forms. */
  found(model: string, version: number, findings: readonly FormMeasured[]): Promise<void>;
}

/** Has agents measure the newest version's forms that nobody measured: of each model one version at a time, and nobody waits for it. */
export class Measuring {
  readonly #world: MeasuringWorld;
  readonly #signal: AbortSignal;
  /** Models at which it is, and how many agents what came meanwhile takes. */
  readonly #wanted = new Map<string, number | undefined>();
  readonly #running = new Set<Promise<void>>();

  constructor(world: MeasuringWorld, signal: AbortSignal) {
    this.#world = world;
    this.#signal = signal;
  }

  /** The newest version of a model may have forms that nobody measured. */
  want(model: string, agentsMin: number): void {
    if (!this.#world.isTrained(model) || this.#signal.aborted) return;
    const isRunning = this.#wanted.has(model);
    this.#wanted.set(model, agentsMin);
    if (isRunning) return;
    const running = this.#run(model).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Resolves when nothing is under way any more, once its signal has aborted. */
  async closed(): Promise<void> {
    await Promise.all(this.#running);
  }

  async #run(model: string): Promise<void> {
    for (let least = this.#wanted.get(model); least !== undefined; least = this.#wanted.get(model)) {
      this.#wanted.set(model, undefined);
      try {
        await this.#measure(model, least);
      } catch (error) {
        // A form that nobody measured is not offered, and float32 serves.
        this.#world.log(`variants of ${model}: ${(error as Error).message}`);
      }
      if (this.#signal.aborted) break;
    }
    this.#wanted.delete(model);
  }

  async #measure(model: string, agentsMin: number): Promise<void> {
    const { newest, measure, found, log } = this.#world;
    const { version, release, variants } = await newest(model);
    if (variants === undefined) return;
    const list = fromBinary(VariantListSchema, variants.list);
    const forms = list.variants.filter(({ state }) => state === VariantState.MADE);
    if (forms.length === 0) return;
    const isOvertaken = (): boolean => this.#wanted.get(model) !== undefined;
    const onLate = (why: string): void => {
      log(`variants of ${model}: version ${version} is ${why}`);
      const late = forms.map(({ name, digest }) => ({ form: name, digest, why }));
      found(model, version, late).catch((error: unknown) => log(`variants of ${model}: ${(error as Error).message}`));
    };
    const wish = { model, version, release, variants, forms, agentsMin, isOvertaken, onLate };
    await found(model, version, await measure(wish, this.#signal));
  }
}
