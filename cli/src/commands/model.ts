import { openModelLink, verifyEd25519 } from '@commonweight/client-sdk';
import {
  checkTrainable,
  contractOf,
  joinModel,
  readModel,
  weightsFromBytes,
  weightsToSafetensors,
  writeModel,
  type TensorSpec,
} from '@commonweight/core';
import { openManifest, type Manifest, type SignedManifest } from '@commonweight/proto';
import { readFile, writeFile } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import type { Command } from 'commander';
import { withAdmin } from '../admin/admin-client.ts';
import { builtModel, modelKinds, type ModelShape } from '../model/model-kinds.ts';
import { name, oneOf, reporting, talking, whole, wholes } from '../output/arguments.ts';
import { CommandError } from '../output/failure.ts';
import { bytes, table } from '../output/format.ts';
import { standardOutput, type Output } from '../output/output.ts';
import { addModelQuantize } from './model-quantize.ts';

interface Options {
  coordinator: string;
  json?: boolean;
}

export function addModel(program: Command): void {
  const model = program
    .command('model')
    .description('the registry: make, import, list, show, export, check and quantize models');
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
    .action(importModel);
  talking(model.command('list'), 'grpc').description('the models of the coordinator').action(listModels);
  talking(model.command('show'), 'grpc')
    .description('the versions of a model')
    .argument('<name>', 'a model', name)
    .action(showModel);
  talking(model.command('export'), 'grpc', 'nats')
    .description('write a version as a stock ONNX file, or its weights as safetensors')
    .argument('<name>', 'a model', name)
    .argument('<file>', 'where to write')
    .option('--version <n>', 'which version; 0 is the newest', whole(0), 0)
    .option('--format <name>', 'onnx, or safetensors for the weights alone', oneOf('onnx', 'safetensors'), 'onnx')
    .action(exportModel);
  reporting(model.command('check'))
    .description('say whether and what of an ONNX file can be trained')
    .argument('<file>', 'an ONNX file')
    .action(checkModel);
  addModelQuantize(model);
}

async function createModel(
  kind: string,
  model: string,
  options: Options & ModelShape & { file?: string },
): Promise<void> {
  const onnx = writeModel(builtModel(kind, options));
  const output = standardOutput(options);
  if (options.file === undefined) return await importBytes(model, onnx, options, output);
  await writeFile(options.file, onnx);
  output.say(`${options.file}: ${bytes(onnx.length)}`, { event: 'written', file: options.file, bytes: onnx.length });
}

async function importModel(file: string, options: Options & { name?: string }): Promise<void> {
  const model = options.name ?? basename(file, extname(file));
  await importBytes(name(model), await readFile(file), options, standardOutput(options));
}

async function importBytes(model: string, onnx: Uint8Array, options: Options, output: Output): Promise<void> {
  const release = await withAdmin(options.coordinator, (admin) => admin.importModel(model, onnx));
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
  const rows = models.map((m) => [m.model, String(m.newestVersion), String(m.parameters), when(m.createdMs)]);
  output.say(
    models.length === 0
      ? 'no models yet: `commonweight model create 2nn digits` makes one'
      : table(['model', 'newest', 'parameters', 'created'], rows),
    {},
  );
}

async function showModel(model: string, options: Options): Promise<void> {
  const releases = await withAdmin(options.coordinator, (admin) => admin.listVersions(model));
  const manifests = releases.map(opened);
  const output = standardOutput(options);
  if (output.json) {
    for (const manifest of manifests) output.say('', recordOf(manifest));
    return;
  }
  const rows = manifests.map((m) => [
    String(m.version),
    m.task || '(imported)',
    String(m.round),
    m.strategy,
    String(m.totalWeight),
    when(m.createdMs),
  ]);
  const { inputs = [], outputs = [] } = manifests.at(-1) ?? {};
  const shape = (specs: readonly { name: string; dtype: string; dims: bigint[] }[]): string =>
    specs.map((spec) => showSpec({ ...spec, dims: spec.dims.map(Number) })).join(', ');
  output.say(
    `${model}: ${shape(inputs)} -> ${shape(outputs)}\n${table(['version', 'task', 'round', 'strategy', 'weight', 'created'], rows)}`,
    {},
  );
}

async function exportModel(
  model: string,
  file: string,
  options: Options & { version: number; format: string },
): Promise<void> {
  const link = openModelLink(options.coordinator);
  try {
    const manifest = opened(await link.getModel(model, options.version));
    const part = async (role: string): Promise<Uint8Array> => {
      const artifact = manifest.artifacts.find((one) => one.role === role);
      if (artifact === undefined)
        throw new CommandError(`version ${manifest.version} of '${model}' has no ${role}; choose another version`);
      return await link.download(artifact.digest, Number(artifact.size));
    };
    const onnx = joinModel(readModel(await part('graph')), weightsFromBytes(await part('weights')));
    const written = options.format === 'onnx' ? onnx : weightsToSafetensors(readModel(onnx));
    await writeFile(file, written);
    standardOutput(options).say(`${file}: version ${manifest.version} of ${model}, ${bytes(written.length)}`, {
      event: 'written',
      file,
      model,
      version: manifest.version,
      format: options.format,
      bytes: written.length,
    });
  } finally {
    await link.close();
  }
}

async function checkModel(file: string, options: { json?: boolean }): Promise<void> {
  const model = readModel(await readFile(file));
  const nodes = checkTrainable(model);
  const { inputs, outputs } = contractOf(model);
  const blocking = nodes.filter(({ verdict }) => verdict === 'not differentiable');
  const trainable = blocking.length === 0 && nodes.some(({ verdict }) => verdict === 'trainable');
  const output = standardOutput(options);
  const rows = nodes.map(({ operator, node, verdict }) => [operator, node, verdict]);
  output.say(
    `${inputs.map(showSpec).join(', ')} -> ${outputs.map(showSpec).join(', ')}\n${table(['operator', 'node', 'verdict'], rows)}`,
    {
      event: 'checked',
      file,
      trainable,
      inputs,
      outputs,
      nodes,
    },
  );
  if (trainable) return;
  const [first] = blocking;
  throw new CommandError(
    first === undefined
      ? `${file} has no weights that a loss could reach: export it with its weights inside`
      : `${file} cannot be trained: node '${first.node}' (${first.operator}) has no gradient; replace it before the export`,
  );
}

/** The manifest inside, once its own signature was verified. */
const opened = (signed: SignedManifest): Manifest => openManifest(signed, signed.publicKey, verifyEd25519);

const recordOf = ({ $typeName: _, inputs, outputs, artifacts, ...rest }: Manifest): object => ({
  ...rest,
  inputs: inputs.map(({ name, dtype, dims }) => ({ name, dtype, dims })),
  outputs: outputs.map(({ name, dtype, dims }) => ({ name, dtype, dims })),
  artifacts: artifacts.map(({ role, variant, digest, size }) => ({ role, variant, digest, size })),
});

const showSpec = ({ name, dtype, dims }: TensorSpec): string =>
  `${name} ${dtype}[${dims.map((dim) => (dim < 0 ? 'batch' : dim)).join(', ')}]`;

const when = (ms: bigint): string => new Date(Number(ms)).toISOString().slice(0, 19).replace('T', ' ');
