import {
  excludeUntil,
  NoiseMeter,
  noiseProbe,
  quantizeModel,
  rangesIn,
  type LayerNoise,
  type ModelProto,
  type QuantizedModel,
  type QuantizeOptions,
} from '@commonweight/core';
import { CommandError } from '../output/failure.ts';
import type { Output } from '../output/output.ts';
import { calibrated } from './calibrate.ts';
import { compareModels } from './compare-models.ts';
import { settingsOf, type FormOptions } from './form-options.ts';
import type { ModelRunner, Samples } from './run-model.ts';
import { madeUpSamples } from './samples.ts';

/** What a form is chosen by; it is tested on other data. */
export interface Choosing {
  samples: Samples | undefined;
  /** Points of accuracy that may be lost on the samples, which have labels then. */
  accuracyDropMax: number | undefined;
}

export interface Quantized {
  quantized: QuantizedModel;
  /** Of every layer, where it was asked for or needed. */
  noise: readonly LayerNoise[];
  /** The layers that stay as they are because the accuracy would not hold with them. */
  leftOut: readonly LayerNoise[];
}

/** Calibrates, tries and quantizes a model, and says how far it is. */
export class Quantizing {
  readonly #model: ModelProto;
  readonly #options: FormOptions;
  readonly #choosing: Choosing;
  readonly #samples: Samples;
  readonly #runner: ModelRunner;
  readonly #output: Output;

  constructor(model: ModelProto, options: FormOptions, choosing: Choosing, runner: ModelRunner, output: Output) {
    this.#model = model;
    this.#options = options;
    this.#choosing = choosing;
    this.#samples = choosing.samples ?? madeUpSamples(model);
    this.#runner = runner;
    this.#output = output;
  }

  /** Throws CommandError where no choice of layers keeps to the bound. */
  async run(isNoiseWanted: boolean): Promise<Quantized> {
    const { form } = this.#options;
    const { accuracyDropMax } = this.#choosing;
    const settings = await this.#settings();
    const noise = isNoiseWanted || accuracyDropMax !== undefined ? await this.#noise(settings) : [];
    if (accuracyDropMax === undefined) {
      return { quantized: quantizeModel(this.#model, form, settings), noise, leftOut: [] };
    }
    const keep = await this.#kept(settings, noise, accuracyDropMax);
    const quantized = quantizeModel(this.#model, form, { ...settings, keep });
    return { quantized, noise, leftOut: noise.filter(({ node }) => keep.has(node)) };
  }

  async #settings(): Promise<QuantizeOptions> {
    const settings = settingsOf(this.#options);
    const { form, method = 'minmax', percentile } = this.#options;
    if (form !== 'static-int8') return settings;
    const kept = this.#choosing.samples === undefined ? rangesIn(this.#model) : undefined;
    if (kept !== undefined) return { ...settings, ranges: kept };
    const ranges = await calibrated(this.#runner, this.#model, this.#samples, {
      ...settings,
      method,
      ...(percentile === undefined ? {} : { percentile }),
      onBatch: (done, of) => this.#batch('calibrating', done, of),
    });
    return { ...settings, ranges };
  }

  async #noise(settings: QuantizeOptions): Promise<LayerNoise[]> {
    const probe = noiseProbe(this.#model, this.#options.form, settings);
    const meter = new NoiseMeter(probe);
    const of = this.#samples.batches.length;
    let done = 0;
    for await (const tensors of this.#runner.run(probe.model, this.#samples)) {
      meter.add(tensors);
      this.#batch('measuring layers', (done += 1), of);
    }
    return meter.report();
  }

  async #kept(settings: QuantizeOptions, noise: readonly LayerNoise[], dropMax: number): Promise<ReadonlySet<string>> {
    let trials = 0;
    return await excludeUntil(noise, async (keep) => {
      const { model } = quantizeModel(this.#model, this.#options.form, { ...settings, keep });
      const { accuracy } = await compareModels(this.#runner, this.#model, model, this.#samples);
      if (accuracy === undefined) {
        throw new CommandError(`'${this.#samples.source}' has no labels: leave out --accuracy-drop-max`);
      }
      trials += 1;
      const drop = (accuracy.before - accuracy.after) * 100;
      this.#progress(`trial ${trials}: ${keep.size} layers left out, ${drop.toFixed(2)} points lost`, {
        stage: 'trial',
        done: trials,
        keptLayers: keep.size,
        dropPoints: drop,
      });
      if (drop > dropMax && keep.size >= noise.length - 1) throw new CommandError(this.#hopeless(noise, drop, dropMax));
      return drop <= dropMax;
    });
  }

  #hopeless(noise: readonly LayerNoise[], drop: number, dropMax: number): string {
    const { form } = this.#options;
    const last = noise.at(-1);
    const how = noise.length > 1 ? `even with '${last?.node}' alone` : 'the one layer';
    const others = form === 'fp16' ? '' : `another form (${form === 'int8-blocks' ? 'fp16' : 'int8-blocks or fp16'}), `;
    return (
      `${form} cannot keep to ${dropMax} points on '${this.#samples.source}': ${how} quantized, ${drop.toFixed(2)} are lost; ` +
      `take ${others}a wider bound, or train the model for it (docs/quantization.md); nothing was written`
    );
  }

  #batch(stage: string, done: number, of: number): void {
    if (done === of || done % 16 === 0) this.#progress(`${stage}: ${done} of ${of} batches`, { stage, done, of });
  }

  /** On the error stream for people, so that what is piped is the result alone. */
  #progress(text: string, record: object): void {
    if (this.#output.json) this.#output.say('', { event: 'progress', ...record });
    else process.stderr.write(`${text}\n`);
  }
}
