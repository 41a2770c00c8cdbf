import { buildPreprocess, contractOf, preprocessSteps, writeModel, type PreprocessOutput } from '@commonweight/core';
import type { Command } from 'commander';
import { readFile, writeFile } from 'node:fs/promises';
import { reporting } from '../output/arguments.ts';
import { bytes } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';
import { showSpec } from './model-check.ts';

/** Steps in the order in which they were typed, whatever their flags. */
type Typed = { step: string; text: string }[];

const INPUT = 'input';

export function addModelPreprocess(model: Command): void {
  const typed: Typed = [];
  const noting = (step: string) => (text: string) => void typed.push({ step, text });
  const command = reporting(model.command('preprocess'))
    .description(
      'write an ONNX graph to stand in front of a model (model import --preprocess): what apps and agents give is then what they have',
    )
    .argument('<file>', 'where to write')
    .option('--into <name>', `which of the model's inputs the steps that follow make (${INPUT})`, noting('into'));
  for (const [step, { usage, help }] of Object.entries(preprocessSteps)) {
    command.option(`--${step} <${usage.toLowerCase()}>`, help, noting(step));
  }
  command
    .addHelpText(
      'after',
      `
Steps are done in the order in which they are given, and may be given again:

  commonweight model preprocess front.onnx --normalise age=40,12 --one-hot city=Rome,Oslo
  commonweight model preprocess front.onnx --image ?x?x3 --resize 32x32 --normalise 0.5:0.4:0.4,0.2:0.2:0.2
  commonweight model preprocess front.onnx --into tokens --tokens review=words.txt,64 --into mask --mask review=words.txt,64`,
    )
    .action((file: string, options: { json?: boolean }) => writePreprocess(file, typed, options));
}

async function writePreprocess(file: string, typed: Typed, options: { json?: boolean }): Promise<void> {
  const outputs: PreprocessOutput[] = [];
  let steps: PreprocessOutput['steps'][number][] | undefined;
  const begin = (name: string): void => void outputs.push({ name, steps: (steps = []) });
  for (const { step, text } of typed) {
    if (step === 'into') {
      begin(text);
      continue;
    }
    if (steps === undefined) begin(INPUT);
    const words = preprocessSteps[step]?.file?.(text);
    const lines = words === undefined ? {} : { lines: (await readFile(words, 'utf8')).split(/\r?\n/) };
    steps!.push({ step, text, ...lines });
  }
  const front = buildPreprocess(outputs);
  const onnx = writeModel(front);
  await writeFile(file, onnx);
  const { inputs, outputs: made } = contractOf(front);
  standardOutput(options).say(
    `${inputs.map(showSpec).join(', ')} -> ${made.map(showSpec).join(', ')}\n${file}: ${bytes(onnx.length)}`,
    { event: 'written', file, bytes: onnx.length, inputs, outputs: made },
  );
}
