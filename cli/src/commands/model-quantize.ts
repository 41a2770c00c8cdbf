import {
  calibrationMethods,
  excludeUntil,
  keptRanges,
  NoiseMeter,
  noiseProbe,
  QuantizeError,
  quantizedForms,
  quantizeModel,
  rangesIn,
  readModel,
  writeModel,
  type CalibrationMethod,
  type LayerNoise,
  type ModelProto,
  type QuantizedForm,
  type QuantizedModel,
  type QuantizeOptions,
  type WeightBits,
} from '@commonweight/core';
import { readFile, writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { calibrated } from '../model/calibrate.ts';
import { compareModels, latenciesOf, type Comparison } from '../model/compare-models.ts';
import { ModelRunner, type Samples } from '../model/run-model.ts';
import { madeUpSamples, readSamples } from '../model/samples.ts';
import { number, oneOf, reporting, whole } from '../output/arguments.ts';
import { UsageError } from '../output/failure.ts';
import { bytes, percent, table } from '../output/format.ts';
import { standardOutput, type Output } from '../output/output.ts';

interface Options {
  form: string;
  out: string;
  calibrate?: string;
  examples: number;
  method: string;
  activations: string;
  weightBits: number;
  blockSize: number;
  exclude: string[];
  accuracyDropMax?: number;
  report?: boolean;
  json?: boolean;
}

export function addModelQuantize(model: Command): void {
  reporting(model.command('quantize'))
    .description('make a smaller, faster form of an ONNX file, and measure both on this machine')
    .argument('<file>', 'an ONNX file with float32 weights')
    .requiredOption('--form <form>', quantizedForms.join(', '), oneOf(...quantizedForms))
    .requiredOption('--out <file>', 'where to write')
    .option(
      '--calibrate <data>',
      'data to measure with, such as "mnist?split=train", or inputs.json; static-int8 needs it, unless the model keeps ranges',
    )
    .option('--examples <n>', 'how many examples of the data', whole(1, 1e6), 512)
    .option(
      '--method <name>',
      `how ranges are chosen: ${calibrationMethods.join(', ')}`,
      oneOf(...calibrationMethods),
      'minmax',
    )
    .option(
      '--activations <type>',
      'uint8 (CPUs) or int8 (accelerators), of static-int8',
      oneOf('uint8', 'int8'),
      'uint8',
    )
    .option(
      '--weight-bits <n>',
      '8, or 7 for CPUs with AVX2 or AVX-512 but no VNNI; fewer for models that were trained for it (int8 forms)',
      whole(2, 8),
      8,
    )
    .option('--block-size <n>', 'numbers that share a scale in the block forms', whole(16, 256), 32)
    .option('--exclude <pattern>', 'leave nodes alone, by name or operator, with *; may be repeated', collected, [])
    .option('--accuracy-drop-max <points>', 'leave out the noisiest layers until the drop is at most this', number(0))
    .option('--report', 'signal to noise of every layer')
    .action(quantizeFile);
}

const collected = (pattern: string, before: string[]): string[] => [...before, pattern];

async function quantizeFile(file: string, options: Options): Promise<void> {
  const { form, calibrate, accuracyDropMax } = options;
  if (accuracyDropMax !== undefined && (calibrate === undefined || calibrate.endsWith('.json'))) {
    throw new UsageError('--accuracy-drop-max needs data with labels: add --calibrate, such as "mnist?split=train"');
  }
  const output = standardOutput(options);
  const before = await readFile(file);
  const model = readModel(before);
  if (form === 'static-int8' && calibrate === undefined && rangesIn(model) === undefined) {
    const why = keptRanges(model).length === 0 ? '' : ', for the ranges that it keeps were not trained yet';
    throw new UsageError(`static-int8 needs data${why}: add --calibrate, such as --calibrate "mnist?split=train"`);
  }
  const samples =
    calibrate === undefined ? madeUpSamples(model) : await readSamples(model, calibrate, options.examples);
  const runner = new ModelRunner();
  try {
    const work = new Quantizing(model, options, samples, runner, output);
    const { quantized, noise } = await work.run();
    const after = writeModel(quantized.model);
    await writeFile(options.out, after);
    const comparison = await compareModels(runner, model, quantized.model, samples);
    const latency = await latenciesOf(runner, [model, quantized.model], samples.one);
    report({ options, sizes: [before.length, after.length], samples, quantized, noise, comparison, latency }, output);
  } finally {
    await runner.close();
  }
}

/** Calibrates, tries and quantizes a model, and says how far it is. */
class Quantizing {
  readonly #model: ModelProto;
  readonly #options: Options;
  readonly #samples: Samples;
  readonly #runner: ModelRunner;
  readonly #output: Output;

  constructor(model: ModelProto, options: Options, samples: Samples, runner: ModelRunner, output: Output) {
    this.#model = model;
    this.#options = options;
    this.#samples = samples;
    this.#runner = runner;
    this.#output = output;
  }

  async run(): Promise<{ quantized: QuantizedModel; noise: LayerNoise[] }> {
    const form = this.#options.form as QuantizedForm;
    let settings = await this.#settings();
    const needsNoise = this.#options.report === true || this.#options.accuracyDropMax !== undefined;
    const noise = needsNoise ? await this.#noise(form, settings) : [];
    if (this.#options.accuracyDropMax !== undefined) {
      settings = { ...settings, keep: await this.#kept(form, settings, noise, this.#options.accuracyDropMax) };
    }
    return { quantized: quantizeModel(this.#model, form, settings), noise };
  }

  async #settings(): Promise<QuantizeOptions> {
    const { form, exclude, activations, weightBits, blockSize, method } = this.#options;
    const settings: QuantizeOptions = {
      exclude,
      activations: activations as 'int8' | 'uint8',
      weightBits: weightBits as WeightBits,
      blockSize,
    };
    if (form !== 'static-int8') return settings;
    const kept = this.#options.calibrate === undefined ? rangesIn(this.#model) : undefined;
    if (kept !== undefined) return { ...settings, ranges: kept };
    const ranges = await calibrated(this.#runner, this.#model, this.#samples, {
      ...settings,
      method: method as CalibrationMethod,
      onBatch: (done, of) => this.#batch('calibrating', done, of),
    });
    return { ...settings, ranges };
  }

  async #noise(form: QuantizedForm, settings: QuantizeOptions): Promise<LayerNoise[]> {
    const probe = noiseProbe(this.#model, form, settings);
    const meter = new NoiseMeter(probe);
    await this.#each('measuring layers', probe.model, (tensors) => meter.add(tensors));
    return meter.report();
  }

  async #kept(
    form: QuantizedForm,
    settings: QuantizeOptions,
    noise: readonly LayerNoise[],
    dropMax: number,
  ): Promise<ReadonlySet<string>> {
    let trials = 0;
    return await excludeUntil(noise, async (keep) => {
      const { model } = quantizeModel(this.#model, form, { ...settings, keep });
      const { accuracy } = await compareModels(this.#runner, this.#model, model, this.#samples);
      if (accuracy === undefined) throw new QuantizeError('the data has no labels; leave out --accuracy-drop-max');
      trials += 1;
      const drop = (accuracy.before - accuracy.after) * 100;
      this.#progress(`trial ${trials}: ${keep.size} layers left out, ${drop.toFixed(2)} points lost`, {
        stage: 'trial',
        done: trials,
        keptLayers: keep.size,
        dropPoints: drop,
      });
      return drop <= dropMax;
    });
  }

  async #each(
    stage: string,
    model: ModelProto,
    take: (tensors: ReadonlyMap<string, Float32Array>) => void,
  ): Promise<void> {
    const of = this.#samples.batches.length;
    let done = 0;
    for await (const tensors of this.#runner.run(model, this.#samples)) {
      take(tensors);
      this.#batch(stage, (done += 1), of);
    }
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

interface Findings {
  options: Options;
  sizes: [number, number];
  samples: Samples;
  quantized: QuantizedModel;
  noise: readonly LayerNoise[];
  comparison: Comparison;
  latency: [number, number];
}

function report({ options, sizes, samples, quantized, noise, comparison, latency }: Findings, output: Output): void {
  const { maxError, sqnrDb, accuracy } = comparison;
  const { layers, kept, folded } = quantized;
  const speedup = latency[0] / latency[1];
  const rows = [
    ['size', bytes(sizes[0]), bytes(sizes[1]), `${(sizes[0] / sizes[1]).toFixed(2)}x smaller`],
    ['latency', ms(latency[0]), ms(latency[1]), `${speedup.toFixed(2)}x ${speedup < 1 ? 'as fast: SLOWER' : 'faster'}`],
    ...(accuracy === undefined
      ? []
      : [['accuracy', percent(accuracy.before), percent(accuracy.after), points(accuracy.after - accuracy.before)]]),
  ];
  const texts = [
    `${options.out}: ${options.form}, ${layers.length} layers quantized, ${kept.length} left as they were` +
      (folded === 0
        ? ''
        : folded === 1
          ? ', 1 node folded into a constant'
          : `, ${folded} nodes folded into constants`),
    table(['', 'before', 'after', ''], rows),
    `outputs on ${samples.source}: largest error ${maxError.toPrecision(3)}, signal to noise ${decibelText(sqnrDb)}`,
    ...(options.report === true
      ? [
          table(
            ['layer', 'operator', 'SQNR'],
            noise.map((l) => [l.node, l.operator, decibelText(l.sqnrDb)]),
          ),
        ]
      : []),
    ...kept.map(({ node, operator, reason }) => `left: ${node} (${operator}) ${reason}`),
  ];
  output.say(texts.join('\n'), {
    event: 'quantized',
    file: options.out,
    form: options.form,
    bytesBefore: sizes[0],
    bytesAfter: sizes[1],
    latencyMsBefore: latency[0],
    latencyMsAfter: latency[1],
    measuredOn: samples.source,
    maxError,
    sqnrDb,
    ...(accuracy === undefined ? {} : { accuracyBefore: accuracy.before, accuracyAfter: accuracy.after }),
    layers,
    kept,
    folded,
    noise,
  });
}

const ms = (value: number): string => `${value.toPrecision(3)} ms`;
const points = (share: number): string => `${share >= 0 ? '+' : ''}${(share * 100).toFixed(2)} points`;
const decibelText = (value: number): string => (Number.isFinite(value) ? `${value.toFixed(1)} dB` : 'no difference');
