import { openModelLink, verifyEd25519, type ModelLink } from '@commonweight/client-sdk';
import {
  joinModel,
  mergeLora,
  OnnxError,
  readModel,
  weightsFromBytes,
  weightsToSafetensors,
  writeModel,
  type ModelProto,
} from '@commonweight/core';
import {
  openManifest,
  SignedManifestSchema,
  type Candidate,
  type Manifest,
  type SignedManifest,
} from '@commonweight/proto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { toBinary } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { fetchForm } from '../model/published-form.ts';
import { oneOf, talking, versionedName, whole, type VersionedName } from '../output/arguments.ts';
import { CommandError, UsageError } from '../output/failure.ts';
import { bytes } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';
import { candidateOf } from './model-candidates.ts';

interface Options {
  coordinator: string;
  json?: boolean;
  version?: number;
  variant: string;
  candidate?: number;
  format: string;
  merge?: boolean;
}

export function addModelExport(model: Command): void {
  talking(model.command('export'), 'grpc', 'nats', 'http')
    .description('write a version as a stock ONNX file, or its weights as safetensors')
    .argument('<name>', 'a model, and with @ a version: digits@3', versionedName)
    .argument('<file>', 'where to write')
    .option('--version <n>', 'which version, in place of @', whole(0))
    .option('--variant <form>', 'a published form, such as int8-static: see model variants', 'fp32')
    .option('--candidate <n>', 'what a gate refused, or decides on, in place of a version', whole(1))
    .option(
      '--format <name>',
      'onnx, safetensors for the weights alone, or bundle: a folder that comes with an app',
      oneOf('onnx', 'safetensors', 'bundle'),
      'onnx',
    )
    .option('--merge', 'add adapters (model import --lora) into the weights: an ordinary model again')
    .action(exportModel);
}

async function exportModel(of: VersionedName, file: string, options: Options): Promise<void> {
  const { variant, format } = options;
  const [model, version] = [of.name, versionIn(of, options)];
  requireFitting(options);
  const link = openModelLink(options.coordinator);
  try {
    const candidate =
      options.candidate === undefined ? undefined : await candidateOf(model, options.candidate, options.coordinator);
    const signed = await link.getModel(model, candidate === undefined ? version : Number(candidate.baseVersion));
    const manifest = openManifest(signed, signed.publicKey, verifyEd25519);
    let written: number;
    if (variant === 'fp32') written = await writeFloat32(link, signed, { manifest, candidate }, file, options);
    else {
      const onnx = await fetchForm(link, signed, manifest, variant);
      await writeFile(file, onnx);
      written = onnx.length;
    }
    const what = candidate === undefined ? `version ${manifest.version}` : `candidate ${candidate.number}`;
    const form = variant === 'fp32' ? '' : ` as ${variant}`;
    standardOutput(options).say(`${file}: ${what} of ${model}${form}, ${bytes(written)}`, {
      event: 'written',
      file,
      model,
      ...(candidate === undefined ? { version: manifest.version } : { candidate: candidate.number }),
      variant,
      format,
      bytes: written,
    });
  } finally {
    await link.close();
  }
}

/** 0 is the newest. */
function versionIn({ name, version }: VersionedName, { version: flag }: Options): number {
  if (flag === undefined || version === 0) return flag ?? version;
  throw new UsageError(`${name}@${version} names the version already: leave out --version`);
}

/** Throws UsageError where two flags ask for what cannot be together. */
function requireFitting({ candidate, format, merge, variant }: Options): void {
  if (candidate !== undefined && format === 'bundle')
    throw new UsageError('--candidate is no version that an app would take: export it as onnx or safetensors');
  if (merge === true && format === 'bundle')
    throw new UsageError('--merge makes another model, which nobody signed: leave it out for a bundle');
  if (variant === 'fp32') return;
  if (candidate !== undefined)
    throw new UsageError(
      'forms are made of versions alone: leave out --candidate, or use `model quantize` on its file',
    );
  if (merge === true)
    throw new UsageError('--variant is a file as it was published: merge first, then use `model quantize`');
  if (format !== 'onnx') throw new UsageError(`--variant is one ONNX file: leave out --format ${format}`);
}

/** Writes the version, or what a gate refused of it, as it was committed; answers how many bytes that is. */
async function writeFloat32(
  link: ModelLink,
  signed: SignedManifest,
  { manifest, candidate }: { manifest: Manifest; candidate: Candidate | undefined },
  file: string,
  { format, merge }: Options,
): Promise<number> {
  const artifacts = { graph: manifest.artifacts, weights: (candidate ?? manifest).artifacts };
  const part = async (role: 'graph' | 'weights'): Promise<Uint8Array> => {
    const artifact = artifacts[role].find((one) => one.role === role);
    if (artifact === undefined)
      throw new CommandError(
        `version ${manifest.version} of '${manifest.model}' has no ${role}; choose another version`,
      );
    return await link.download(artifact.digest, Number(artifact.size));
  };
  const [graph, weights] = [await part('graph'), await part('weights')];
  if (format === 'bundle') {
    const release = toBinary(SignedManifestSchema, signed);
    await mkdir(file, { recursive: true });
    for (const [each, data] of Object.entries({ release, graph, weights })) await writeFile(join(file, each), data);
    return release.length + graph.length + weights.length;
  }
  const joined = joinModel(readModel(graph), weightsFromBytes(weights));
  const onnx = merge === true ? writeModel(merged(readModel(joined))) : joined;
  const data = format === 'onnx' ? onnx : weightsToSafetensors(readModel(onnx));
  await writeFile(file, data);
  return data.length;
}

/** Throws UsageError where there is nothing to merge. */
function merged(model: ModelProto): ModelProto {
  try {
    return mergeLora(model);
  } catch (cause) {
    if (cause instanceof OnnxError) throw new UsageError(`--merge: ${cause.message}`, { cause });
    throw cause;
  }
}
