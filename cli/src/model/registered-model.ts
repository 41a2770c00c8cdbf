import { openModelLink, verifyEd25519, type ModelLink } from '@commonweight/client-sdk';
import { joinModel, readModel, weightsFromBytes, type ModelProto } from '@commonweight/core';
import { openManifest, type Manifest } from '@commonweight/proto';
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { versionedName } from '../output/arguments.ts';
import { CommandError, UsageError } from '../output/failure.ts';
import { readOnnx } from './read-onnx.ts';

/** A model to work on, and what it is called. */
export interface NamedModel {
  model: ModelProto;
  /** Bytes of its file, or of a version's graph and weights. */
  bytes: number;
  /** `small.onnx`, or `digits version 3`. */
  source: string;
}

/** An ONNX file, or a version of a registered model: `digits` or `digits@3`. Throws UsageError, CommandError or TransportError. */
export async function fileOrVersion(text: string, coordinator: string): Promise<NamedModel> {
  if (text.endsWith('.onnx') || existsSync(text)) {
    return { model: await readOnnx(text), bytes: (await stat(text)).size, source: text };
  }
  const { name, version } = versionOf(text);
  const link = openModelLink(coordinator);
  try {
    const signed = await link.getModel(name, version);
    const manifest = openManifest(signed, signed.publicKey, verifyEd25519);
    const bytes = manifest.artifacts
      .filter(({ role }) => role === 'graph' || role === 'weights')
      .reduce((sum, { size }) => sum + Number(size), 0);
    return { model: await fetchModel(link, manifest), bytes, source: `${name} version ${manifest.version}` };
  } finally {
    await link.close();
  }
}

function versionOf(text: string): { name: string; version: number } {
  try {
    return versionedName(text);
  } catch (cause) {
    throw new UsageError(
      `'${text}' is no file that is there, and no model's name: give FILE.onnx, digits or digits@3`,
      {
        cause,
      },
    );
  }
}

/** The float32 model of a version. */
export async function fetchModel(link: ModelLink, manifest: Manifest): Promise<ModelProto> {
  const part = async (role: string): Promise<Uint8Array> => {
    const artifact = manifest.artifacts.find((one) => one.role === role);
    if (artifact === undefined) throw new CommandError(`version ${manifest.version} has no ${role}`);
    return await link.download(artifact.digest, Number(artifact.size));
  };
  return readModel(joinModel(readModel(await part('graph')), weightsFromBytes(await part('weights'))));
}
