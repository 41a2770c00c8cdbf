import { openModelLink, verifyEd25519 } from '@commonweight/client-sdk';
import { parametersOf, writeModel, type ModelProto, type Range, type TensorSpec } from '@commonweight/core';
import {
  openManifest,
  openResult,
  type Artifact,
  type Manifest,
  type Result,
  type SignedManifest,
} from '@commonweight/proto';
import { writeFile } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import type { Command } from 'commander';
import { withAdmin } from '../admin/admin-client.ts';
import { sourceOf, withFile, type FileSource } from '../admin/file-source.ts';
import { behind } from '../model/behind.ts';
import { adapted, adapts, type AdaptFlags } from '../model/adapted.ts';
import { calibrated } from '../model/calibrate.ts';
import { contractTypes } from '../model/contract-types.ts';
import { builtModel, modelKinds, type ModelShape } from '../model/model-kinds.ts';
import { readOnnx, understood } from '../model/read-onnx.ts';
import { ModelRunner } from '../model/run-model.ts';
import { readSamples } from '../model/samples.ts';
import { withWeights } from '../model/with-weights.ts';
import { gathered, name, number, oneOf, talking, whole, wholes } from '../output/arguments.ts';
import { refusedIsUsage, UsageError } from '../output/failure.ts';
import { bytes, percent, table, time } from '../output/format.ts';
import { standardOutput, type Output } from '../output/output.ts';
import { addModelChannel } from './model-channel.ts';
import { addModelCheck, showSpec } from './model-check.ts';
import { addModelAudit, modelVersion, type ModelVersion } from './model-audit.ts';
import { addModelCandidates } from './model-candidates.ts';
import { addModelDistill } from './model-distill.ts';
import { addModelExport } from './model-export.ts';
import { addModelFleet } from './model-fleet.ts';
import { addModelPrune } from './model-prune.ts';
import { addModelQuantize } from './model-quantize.ts';
import { addModelPreprocess } from './model-preprocess.ts';
import { addModelVariants } from './model-variants.ts';

/** Examples that first ranges are measured on. */
const CALIBRATION_EXAMPLES = 512;

interface Options {
  coordinator: string;
  json?: boolean;
}

export function addModel(program: Command): void {
  const model = program
    .command('model')
    .description(
      'the registry: make, import, list, show, export, check, audit, quantize, prune and distill models, their forms and channels',
    );
  talking(model.command('create'), 'grpc')
    .description(`make a fresh model (${Object.keys(modelKinds).join(', ')}) and import it`)
    .argument('<kind>', 'what to make', oneOf(...Object.keys(modelKinds)))
    .argument('<name>', 'its name', name)
    .option('--inputs <n>', 'values of one example (mlp, logistic)', whole(1, 1e8))
    .option('--outputs <n>', 'classes', whole(1, 1e6))
    .option('--hidden <list>', 'sizes of the hidden layers, such as 200,200 (mlp)', wholes)
    .option('--height <n>', 'of an image (cnn)', whole(1, 4096))
    .option('--width <n>', 'of an image (cnn)', whole(1, 4096))
    .option('--channels <n>', 'of an image (cnn)', whole(1, 64))
    .option('--filters <list>', 'filters of the convolutions, such as 32,64 (cnn)', wholes)
    .option('--dense <n>', 'size of the dense layer (cnn)', whole(1, 65536))
    .option('--seed <n>', 'seed of the first weights', whole(0), 1)
    .option('--file <file>', 'write an ONNX file instead of importing')
    .action(createModel);
  talking(model.command('import'), 'grpc')
    .description('import an ONNX file as version 1')
    .argument('<file>', 'an ONNX file')
    .option('--name <name>', 'the name of the model (else that of the file)', name)
    .option('--weights <file>', 'a safetensors file with its weights, each under its name in the ONNX file')
    .option('--replace-head <classes>', 'make its last dense layer anew, for so many classes', whole(1, 1e6))
    .option('--train <pattern>', 'train the tensors of these names alone, with * for any letters; repeatable', gathered)
    .option(
      '--lora <pattern>',
      'freeze all but low-rank adapters beside the layers of these names; repeatable',
      gathered,
    )
    .option('--lora-rank <n>', 'width of the adapters (8)', whole(1, 4096))
    .option('--lora-alpha <x>', 'the adapters count alpha/rank (the rank)', number(0))
    .option('--keep-ranges', 'add tensors for the ranges of activations, which quantization-aware training fills')
    .option('--calibrate <data>', 'of --keep-ranges: measure first ranges here, on data such as "mnist?split=train"')
    .option('--seed <n>', 'of a new head and of adapters', whole(0), 1)
    .option('--preprocess <file>', 'an ONNX graph that stands in front of it and is shipped with it (model preprocess)')
    .option('--file <file>', 'write an ONNX file instead of importing')
    .action(importModel);
  talking(model.command('list'), 'grpc').description('the models of the coordinator').action(listModels);
  talking(model.command('show'), 'grpc')
    .description('the versions of a model')
    .argument('<name>', 'a model', name)
    .action(showModel);
  addModelExport(model);
  for (const [verb, isPinned] of [
    ['pin', true],
    ['unpin', false],
  ] as const) {
    talking(model.command(verb), 'grpc')
      .description(isPinned ? 'keep a version whole, whatever --keep-versions says' : 'take the pin of a version away')
      .argument('<model[@version]>', 'which version; without one, the newest', modelVersion)
      .action((of: ModelVersion, options: Options) => pinModel(of, isPinned, options));
  }
  talking(model.command('types'), 'grpc', 'nats', 'http')
    .description('write a TypeScript declaration of what goes into a model and what comes out')
    .argument('<name>', 'a model', name)
    .argument('[file]', 'where to write (else NAME.d.ts)')
    .option('--version <n>', 'which version; 0 is the newest', whole(0), 0)
    .action(writeTypes);
  addModelCheck(model);
  addModelPreprocess(model);
  addModelAudit(model);
  addModelQuantize(model);
  addModelPrune(model);
  addModelDistill(model);
  addModelVariants(model);
  addModelCandidates(model);
  addModelChannel(model);
  addModelFleet(model);
}

async function createModel(
  kind: string,
  model: string,
  options: Options & ModelShape & { file?: string },
): Promise<void> {
  const onnx = writeModel(builtModel(kind, options));
  await writeOrImport(model, onnx, options, standardOutput(options));
}

type ImportFlags = AdaptFlags & {
  name?: string;
  weights?: string;
  preprocess?: string;
  file?: string;
  calibrate?: string;
};

async function importModel(file: string, options: Options & ImportFlags): Promise<void> {
  const model = name(options.name ?? basename(file, extname(file)));
  const output = standardOutput(options);
  const { weights, preprocess, calibrate } = options;
  if (calibrate !== undefined && options.keepRanges !== true) {
    throw new UsageError('--calibrate goes with --keep-ranges: say that the model is to keep what is measured');
  }
  const isAdapted = adapts(options);
  if (!isAdapted && (weights ?? preprocess ?? options.file) === undefined)
    return await withFile(file, (source) => importFrom(model, source, options, output));
  const onnx = await readOnnx(file);
  const read = weights === undefined ? onnx : await withWeights(onnx, weights);
  const { keepRanges: _, ...others } = options;
  const ranges =
    calibrate === undefined
      ? undefined
      : await rangesOn(calibrate, adapts(others) ? understood(file, () => adapted(read, others)) : read);
  const changed = isAdapted ? understood(file, () => adapted(read, options, ranges)) : read;
  const composed = preprocess === undefined ? changed : await behind(preprocess, changed);
  await writeOrImport(model, writeModel(composed), options, output);
  if (!isAdapted) return;
  const count = (of: ModelProto): number => parametersOf(of).reduce((sum, { length }) => sum + length, 0);
  const [trained, all] = [count(changed), count(read)];
  output.say(
    `${trained.toLocaleString('en')} numbers are trained and travel in updates (${percent(trained / all)} of what the file would train)`,
    { event: 'adapted', model, trained, parameters: all },
  );
}

/** Ranges of activations, measured on this machine. */
async function rangesOn(data: string, model: ModelProto): Promise<Map<string, Range>> {
  const runner = new ModelRunner();
  try {
    return await calibrated(runner, model, await readSamples(model, data, CALIBRATION_EXAMPLES));
  } finally {
    await runner.close();
  }
}

async function writeOrImport(
  model: string,
  onnx: Uint8Array,
  options: Options & { file?: string },
  output: Output,
): Promise<void> {
  const { file } = options;
  if (file === undefined) return await importFrom(model, sourceOf(onnx), options, output);
  await writeFile(file, onnx);
  output.say(`${file}: ${bytes(onnx.length)}`, { event: 'written', file, bytes: onnx.length });
}

async function importFrom(model: string, source: FileSource, options: Options, output: Output): Promise<void> {
  const release = await withAdmin(options.coordinator, (admin) =>
    refusedIsUsage(() => admin.importModel(model, source)),
  );
  const { version, artifacts } = opened(release);
  const size = artifacts.reduce((sum, artifact) => sum + Number(artifact.size), 0);
  output.say(`${model} version ${version}: ${bytes(size)}`, { event: 'imported', model, version, bytes: size });
}

async function listModels(options: Options): Promise<void> {
  const models = await withAdmin(options.coordinator, (admin) => admin.listModels());
  const output = standardOutput(options);
  if (output.json) {
    for (const { model, newestVersion, parameters, createdMs } of models)
      output.say('', { model, newestVersion, parameters, createdMs });
    return;
  }
  const rows = models.map((m) => [m.model, String(m.newestVersion), String(m.parameters), time(m.createdMs)]);
  output.say(
    models.length === 0
      ? 'no models yet: `commonweight model create 2nn digits` makes one'
      : table(['model', 'newest', 'parameters', 'created'], rows),
    {},
  );
}

async function showModel(model: string, options: Options): Promise<void> {
  const [releases, kept, results, channels] = await withAdmin(options.coordinator, async (admin) => [
    await admin.listVersions(model),
    await admin.listKept(model),
    await admin.listResults({ model }),
    await admin.listChannels(model),
  ]);
  const manifests = releases.map(opened);
  const measured = measuredMetrics(results.map((one) => openResult(one, one.publicKey, verifyEd25519)));
  const output = standardOutput(options);
  const keptOf = (version: bigint): string[] =>
    (['collected', 'pinned', 'retained'] as const).filter((how) => kept[how].includes(version));
  const inChannels = (version: bigint): string[] =>
    channels.flatMap(({ channel, version: all, rollout }) =>
      all === version ? [channel] : rollout?.version === version ? [`${channel} ${rollout.percent} %`] : [],
    );
  if (output.json) {
    for (const manifest of manifests) {
      const evaluated = { ...manifest.evaluation?.metrics, ...measured.get(manifest.version) };
      const { version } = manifest;
      output.say('', { ...recordOf(manifest), kept: keptOf(version), channels: inChannels(version), evaluated });
    }
    return;
  }
  const rows = manifests.map((m) => [
    String(m.version),
    m.restoredVersion > 0n ? `(version ${m.restoredVersion} again)` : m.task || '(imported)',
    String(m.round),
    m.strategy,
    String(m.totalWeight),
    deltaOf(m),
    Object.entries({ ...m.evaluation?.metrics, ...measured.get(m.version) })
      .map(([metric, value]) => `${metric} ${Number(value.toPrecision(4))}`)
      .join(', '),
    time(m.createdMs),
    [
      ...keptOf(m.version).map((how) => (how === 'retained' ? 'auditable' : how)),
      ...inChannels(m.version).map((channel) => `in ${channel}`),
    ].join(', '),
  ]);
  const { inputs = [], outputs = [] } = manifests.at(-1) ?? {};
  const shape = (specs: readonly { name: string; dtype: string; dims: bigint[] }[]): string =>
    specs.map((spec) => showSpec({ ...spec, dims: spec.dims.map(Number) })).join(', ');
  output.say(
    `${model}: ${shape(inputs)} -> ${shape(outputs)}\n${table(['version', 'task', 'round', 'strategy', 'weight', 'delta', 'measured', 'created', ''], rows)}`,
    {},
  );
}

/** The newest that tasks measured of each version. */
function measuredMetrics(results: readonly Result[]): Map<bigint, Record<string, number>> {
  const all = results.toSorted((a, b) => Number(a.createdMs - b.createdMs));
  return new Map(all.map(({ version, evaluation }) => [version, evaluation?.metrics ?? {}]));
}

async function pinModel({ model, version }: ModelVersion, isPinned: boolean, options: Options): Promise<void> {
  const number = await withAdmin(options.coordinator, (admin) => admin.pinVersion(model, version, isPinned));
  const event = isPinned ? 'pinned' : 'unpinned';
  standardOutput(options).say(`version ${number} of ${model}: ${event}`, { event, model, version: number });
}

async function writeTypes(
  model: string,
  given: string | undefined,
  options: Options & { version: number },
): Promise<void> {
  const file = given ?? `${model}.d.ts`;
  const link = openModelLink(options.coordinator);
  try {
    const manifest = opened(await link.getModel(model, options.version));
    const specs = (tensors: Manifest['inputs']): TensorSpec[] =>
      tensors.map((tensor) => ({ name: tensor.name, dtype: tensor.dtype, dims: tensor.dims.map(Number) }));
    const version = Number(manifest.version);
    const contract = { model, version, inputs: specs(manifest.inputs), outputs: specs(manifest.outputs) };
    await writeFile(file, contractTypes(contract));
    standardOutput(options).say(`${file}: the contract of ${model}, version ${version}`, {
      event: 'written',
      file,
      model,
      version,
    });
  } finally {
    await link.close();
  }
}

/** The manifest inside, once its own signature was verified. */
const opened = (signed: SignedManifest): Manifest => openManifest(signed, signed.publicKey, verifyEd25519);

const recordOf = ({
  $typeName: _,
  inputs,
  outputs,
  artifacts,
  earlierDeltas,
  evaluation: __,
  ...rest
}: Manifest): object => ({
  ...rest,
  inputs: inputs.map(({ name, dtype, dims }) => ({ name, dtype, dims })),
  outputs: outputs.map(({ name, dtype, dims }) => ({ name, dtype, dims })),
  artifacts: artifacts.map(artifactRecord),
  earlierDeltas: earlierDeltas.map(artifactRecord),
});

const artifactRecord = ({ role, variant, digest, size, fromDigest, toDigest }: Artifact): object => ({
  role,
  variant,
  digest,
  size,
  ...(role === 'delta' ? { fromDigest, toDigest } : {}),
});

/** What who has the version before fetches instead of the weights. */
function deltaOf({ artifacts }: Manifest): string {
  const [delta, weights] = ['delta', 'weights'].map((role) => artifacts.find((artifact) => artifact.role === role));
  if (delta === undefined || weights === undefined) return '';
  return `${bytes(delta.size)} (${percent(Number(delta.size) / Number(weights.size))})`;
}
