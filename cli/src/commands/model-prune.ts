import {
  costOf,
  pruneChannels,
  pruneWeights,
  writeModel,
  type ChannelGroup,
  type KeptLayer,
  type ModelCost,
  type ModelProto,
} from '@commonweight/core';
import { writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { InvalidArgumentError, type Command } from 'commander';
import { withAdmin } from '../admin/admin-client.ts';
import { sourceOf } from '../admin/file-source.ts';
import { compareModels, latenciesOf, type Comparison } from '../model/compare-models.ts';
import { understood } from '../model/read-onnx.ts';
import { fileOrVersion } from '../model/registered-model.ts';
import { ModelRunner, type Samples } from '../model/run-model.ts';
import { madeUpSamples, readSamples } from '../model/samples.ts';
import { gathered, name, oneOf, talking, whole } from '../output/arguments.ts';
import { UsageError } from '../output/failure.ts';
import { bytes, percent, table } from '../output/format.ts';
import { standardOutput, type Output } from '../output/output.ts';

interface Options {
  coordinator: string;
  sparsity: number;
  structured?: string;
  scope: string;
  exclude: string[];
  out?: string;
  import?: string;
  data?: string;
  examples: number;
  json?: boolean;
}

export function addModelPrune(model: Command): void {
  talking(model.command('prune'), 'grpc')
    .description('make weights zero, or take whole channels away, where they say least, and measure both models here')
    .argument('<model>', 'an ONNX file, or a version of a registered model: FILE.onnx, digits, digits@3')
    .requiredOption('--sparsity <share>', 'share of the weights, or of the channels, that goes', shareBelowOne)
    .option(
      '--structured <what>',
      'channels: take them away, which makes the model smaller and faster',
      oneOf('channels'),
    )
    .option(
      '--scope <name>',
      'without --structured: the share of each layer, or of all together (global)',
      oneOf('layer', 'global'),
      'layer',
    )
    .option('--exclude <pattern>', 'leave layers alone, by name or operator, with *; may be repeated', gathered, [])
    .option('--out <file>', 'where to write')
    .option('--import <name>', 'register it as a model of this name, for a task to train on', name)
    .option('--data <spec>', 'data to measure on, such as "mnist?split=test"; without it, made-up numbers')
    .option('--examples <n>', 'how many examples of the data', whole(1, 1e6), 1000)
    .action(pruneModel);
}

function shareBelowOne(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && value > 0 && value < 1) return value;
  throw new InvalidArgumentError('Give a number above 0 and below 1.');
}

/** What was made, by either way. */
interface Pruned {
  model: ModelProto;
  groups: readonly ChannelGroup[];
  kept: readonly KeptLayer[];
}

async function pruneModel(text: string, options: Options): Promise<void> {
  if (options.out === undefined && options.import === undefined) {
    throw new UsageError('say where it is to go: --out FILE.onnx, --import NAME, or both');
  }
  if (options.structured !== undefined && options.scope !== 'layer') {
    throw new UsageError('--scope is for single weights; channels go by layer');
  }
  const { model, bytes: size, source } = await fileOrVersion(text, options.coordinator);
  const samples =
    options.data === undefined ? madeUpSamples(model) : await readSamples(model, options.data, options.examples);
  const pruned = understood(source, () => prunedModel(model, options));
  const onnx = writeModel(pruned.model);
  if (options.out !== undefined) await writeFile(options.out, onnx);
  const runner = new ModelRunner();
  try {
    const comparison = await compareModels(runner, model, pruned.model, samples);
    const latency = await latenciesOf(runner, [model, pruned.model], samples.one);
    const sizes = [size, onnx.length] as const;
    const zipped = [gzipSync(writeModel(model)).length, gzipSync(onnx).length] as const;
    const costs = [costOf(model), costOf(pruned.model)] as const;
    report({ options, source, pruned, sizes, zipped, costs, comparison, latency, samples }, standardOutput(options));
  } finally {
    await runner.close();
  }
  if (options.import !== undefined) await importPruned(options.import, onnx, options);
}

function prunedModel(model: ModelProto, { sparsity, structured, scope, exclude }: Options): Pruned {
  if (structured === 'channels') return pruneChannels(model, { sparsity, exclude });
  const { model: pruned } = pruneWeights(model, { sparsity, scope: scope as 'layer' | 'global', exclude });
  return { model: pruned, groups: [], kept: [] };
}

async function importPruned(model: string, onnx: Uint8Array, options: Options): Promise<void> {
  await withAdmin(options.coordinator, (admin) => admin.importModel(model, sourceOf(onnx)));
  standardOutput(options).say(
    `registered as ${model}: train it on with \`commonweight task create NAME --model ${model}\``,
    { event: 'imported', model, version: 1, bytes: onnx.length },
  );
}

interface Findings {
  options: Options;
  source: string;
  pruned: Pruned;
  sizes: readonly [number, number];
  zipped: readonly [number, number];
  costs: readonly [ModelCost, ModelCost];
  comparison: Comparison;
  latency: readonly [number, number];
  samples: Samples;
}

function report(findings: Findings, output: Output): void {
  const { options, source, pruned, sizes, zipped, costs, comparison, latency, samples } = findings;
  const [before, after] = costs;
  const { accuracy } = comparison;
  const speedup = latency[0] / latency[1];
  const isStructured = options.structured !== undefined;
  const rows = [
    [
      'parameters',
      count(before.parameters),
      count(after.parameters),
      times(before.parameters, after.parameters, 'fewer'),
    ],
    ['not zero', count(before.parameters - before.zeros), count(after.parameters - after.zeros), ''],
    ['size', bytes(sizes[0]), bytes(sizes[1]), times(sizes[0], sizes[1], 'smaller')],
    ['gzipped', bytes(zipped[0]), bytes(zipped[1]), times(zipped[0], zipped[1], 'smaller')],
    ...(before.operations === undefined || after.operations === undefined
      ? []
      : [
          [
            'operations',
            count(before.operations),
            count(after.operations),
            times(before.operations, after.operations, 'fewer'),
          ],
        ]),
    ['latency', ms(latency[0]), ms(latency[1]), `${speedup.toFixed(2)}x ${speedup < 1 ? 'as fast: SLOWER' : 'faster'}`],
    ...(accuracy === undefined
      ? []
      : [['accuracy', percent(accuracy.before), percent(accuracy.after), points(accuracy.after - accuracy.before)]]),
  ];
  const texts = [
    `${source}: ${percent(options.sparsity)} of the ${isStructured ? 'channels of each group of layers' : options.scope === 'global' ? 'weights' : 'weights of each layer'} away`,
    table(['', 'before', 'after', ''], rows),
    `outputs on ${samples.source}: largest error ${comparison.maxError.toPrecision(3)}, the same largest output in ${percent(comparison.agreement)} of rows`,
    ...pruned.groups.map(({ nodes, before: from, after: to }) => `${nodes.join(', ')}: ${from} channels, now ${to}`),
    ...pruned.kept.map(({ node, operator, reason }) => `left: ${node} (${operator}) ${reason}`),
    ...(isStructured
      ? []
      : ['zeros take as much room and time as other numbers here; what is stored or sent compressed gets smaller']),
    ...(options.out === undefined ? [] : [`written to ${options.out}`]),
  ];
  output.say(texts.join('\n'), {
    event: 'pruned',
    source,
    ...(options.out === undefined ? {} : { file: options.out }),
    sparsity: options.sparsity,
    structured: options.structured ?? null,
    parametersBefore: before.parameters,
    parametersAfter: after.parameters,
    zerosBefore: before.zeros,
    zerosAfter: after.zeros,
    bytesBefore: sizes[0],
    bytesAfter: sizes[1],
    gzippedBefore: zipped[0],
    gzippedAfter: zipped[1],
    operationsBefore: before.operations ?? null,
    operationsAfter: after.operations ?? null,
    latencyMsBefore: latency[0],
    latencyMsAfter: latency[1],
    measuredOn: samples.source,
    maxError: comparison.maxError,
    agreement: comparison.agreement,
    ...(accuracy === undefined ? {} : { accuracyBefore: accuracy.before, accuracyAfter: accuracy.after }),
    groups: pruned.groups,
    kept: pruned.kept,
  });
}

const ms = (value: number): string => `${value.toPrecision(3)} ms`;
const points = (share: number): string => `${share >= 0 ? '+' : ''}${(share * 100).toFixed(2)} points`;
const times = (before: number, after: number, how: string): string => `${(before / after).toFixed(2)}x ${how}`;
const count = (value: number): string => Math.round(value).toLocaleString('en');
