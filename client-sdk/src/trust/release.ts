import {
  isName,
  openManifest,
  SignatureError,
  type Artifact,
  type Manifest,
  type SignedManifest,
} from '@commonweight/proto';
import { TrustError } from '../errors.ts';
import { verifyEd25519 } from './ed25519.ts';
import type { KeyPin } from './key-pin.ts';

/** A release whose signature was verified: what to fetch and what it promises. */
export interface Release {
  model: string;
  version: number;
  graph: Artifact;
  weights: Artifact;
  manifest: Manifest;
  signed: SignedManifest;
}

/** The release inside a signed manifest of `model`, once it is known to be the trusted key's. */
export function openRelease(model: string, signed: SignedManifest, pin: KeyPin): Release {
  pin.check(signed.publicKey);
  let manifest: Manifest;
  try {
    manifest = openManifest(signed, pin.key ?? signed.publicKey, verifyEd25519);
  } catch (cause) {
    if (!(cause instanceof SignatureError)) throw cause;
    throw new TrustError(`a release of '${model}' was refused: ${cause.message}`, { cause });
  }
  if (manifest.model !== model || !isName(manifest.model)) {
    throw new TrustError(`a release of '${manifest.model}' was offered as one of '${model}'`);
  }
  pin.pin(signed.publicKey);
  const version = Number(manifest.version);
  if (!Number.isSafeInteger(version) || version < 1)
    throw new TrustError(`'${model}' has no version ${manifest.version}`);
  return { model, version, graph: part('graph'), weights: part('weights'), manifest, signed };

  function part(role: string): Artifact {
    const artifact = manifest.artifacts.find((each) => each.role === role && each.variant === 'fp32');
    if (artifact !== undefined) return artifact;
    throw new TrustError(
      `version ${manifest.version} of '${model}' names no fp32 ${role}; this SDK may be too old for it`,
    );
  }
}
