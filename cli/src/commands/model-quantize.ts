import { calibrationMethods, keptRanges, quantizedForms, rangesIn, readModel, writeModel } from '@commonweight/core';
import { readFile, writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { compareModels, latenciesOf } from '../model/compare-models.ts';
import { requireHeldOut } from '../model/held-out-samples.ts';
import { Quantizing } from '../model/quantizing.ts';
import { requireOfForm, type FormOptions } from '../model/form-options.ts';
import { reportQuantized } from '../model/report-quantized.ts';
import { ModelRunner } from '../model/run-model.ts';
import { madeUpSamples, readSamples } from '../model/samples.ts';
import { number, oneOf, percentage, reporting, whole } from '../output/arguments.ts';
import { UsageError } from '../output/failure.ts';
import { standardOutput } from '../output/output.ts';

interface Options extends FormOptions {
  out: string;
  calibrate?: string;
  test?: string;
  examples: number;
  testExamples: number;
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
      'data to choose by, such as "mnist?split=train", or inputs.json; static-int8 needs it, unless the model keeps ranges',
    )
    .option('--examples <n>', 'how many examples of the data', whole(1, 1e6), 512)
    .option(
      '--test <data>',
      'other data to measure on what was made, such as "mnist?split=test"; nothing is chosen by it',
    )
    .option('--test-examples <n>', 'how many examples of that', whole(1, 1e6), 1000)
    .option(
      '--method <name>',
      `how ranges are chosen, of static-int8: ${calibrationMethods.join(', ')} (default: minmax)`,
      oneOf(...calibrationMethods),
    )
    .option(
      '--percentile <p>',
      'percent of the numbers that stay in range with --method percentile (default: 99.999)',
      percentage,
    )
    .option(
      '--activations <type>',
      'uint8 (CPUs) or int8 (accelerators), of static-int8 (default: uint8)',
      oneOf('uint8', 'int8'),
    )
    .option(
      '--weight-bits <n>',
      '8, or 7 for CPUs with AVX2 or AVX-512 but no VNNI; fewer for models that were trained for it; of the int8 forms without blocks (default: 8)',
      whole(2, 8),
    )
    .option('--block-size <n>', 'numbers that share a scale in the block forms (default: 32)', whole(16, 256))
    .option(
      '--accuracy-level <n>',
      'what a runtime may round activations to in the block forms: 0 as it likes, 1 float32, 2 float16, 3 bfloat16, 4 int8 (default: 4)',
      whole(0, 4),
    )
    .option('--exclude <pattern>', 'leave nodes alone, by name or operator, with *; may be repeated', collected, [])
    .option(
      '--accuracy-drop-max <points>',
      'leave out the noisiest layers until the drop on --calibrate is at most this',
      number(0),
    )
    .option('--report', 'signal to noise of every layer')
    .action(quantizeFile);
}

const collected = (pattern: string, before: string[]): string[] => [...before, pattern];

async function quantizeFile(file: string, options: Options): Promise<void> {
  const { form, calibrate, accuracyDropMax } = options;
  requireOfForm(options);
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
  const known = calibrate === undefined ? undefined : await readSamples(model, calibrate, options.examples);
  const unseen = options.test === undefined ? undefined : await readSamples(model, options.test, options.testExamples);
  const shared = known === undefined || unseen === undefined ? 0 : requireHeldOut(model, known, unseen);
  const runner = new ModelRunner();
  try {
    const work = new Quantizing(model, options, { samples: known, accuracyDropMax }, runner, output);
    const { quantized, noise, leftOut } = await work.run(options.report === true);
    const after = writeModel(quantized.model);
    await writeFile(options.out, after);
    const measured = [known, unseen].filter((samples) => samples !== undefined);
    const comparisons = [];
    for (const samples of measured.length === 0 ? [madeUpSamples(model)] : measured) {
      comparisons.push({ samples, ...(await compareModels(runner, model, quantized.model, samples)) });
    }
    // What is said of the outputs is of data that nothing was chosen by, where there are any.
    const last = comparisons.at(-1)!;
    const latency = await latenciesOf(runner, [model, quantized.model], last.samples.one);
    const isChosenBy = known !== undefined && (form === 'static-int8' || accuracyDropMax !== undefined);
    reportQuantized(
      {
        file: options.out,
        form,
        accuracyDropMax,
        sizes: [before.length, after.length],
        quantized,
        noise,
        leftOut,
        isListed: options.report === true,
        latency,
        outputs: last,
        isHeldOut: unseen !== undefined,
        calibration: isChosenBy ? comparisons[0] : undefined,
        shared,
      },
      output,
    );
  } finally {
    await runner.close();
  }
}
