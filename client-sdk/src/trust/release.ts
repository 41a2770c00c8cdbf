import {
  isName,
  openManifest,
  SignatureError,
  signedBytes,
  type Artifact,
  type Manifest,
  type SignedManifest,
} from '@commonweight/proto';
import { TrustError } from '../errors.ts';
import { hex } from '../hex.ts';
import type { TrustCrypto } from '../platform/platform.ts';
import type { KeyPin } from './key-pin.ts';

/** A release whose signature was verified: what to fetch and what it promises. */
export interface Release {
  model: string;
  version: number;
  /** What it is made of, whatever its number: the digests of graph and weights. */
  content: string;
  graph: Artifact;
  weights: Artifact;
  manifest: Manifest;
  signed: SignedManifest;
  /** SHA-256 of the manifest's bytes. */
  digest: Uint8Array;
}

/** Bytes of a release that a device holds on disk. */
export const sizeOf = ({ graph, weights }: Release): number => Number(graph.size + weights.size);

/** The release inside a signed manifest of `model`, once it is known to be the trusted key's. Throws TrustError. */
export async function openRelease(
  model: string,
  signed: SignedManifest,
  pin: KeyPin,
  { sha256, verifyEd25519 }: TrustCrypto,
): Promise<Release> {
  pin.check(signed.publicKey);
  const message = signedBytes('Manifest', signed.manifest);
  const isGenuine = await verifyEd25519(signed.publicKey, message, signed.signature);
  let manifest: Manifest;
  try {
    // Another key may have been pinned while this one was being verified.
    manifest = openManifest(signed, pin.key ?? signed.publicKey, () => isGenuine);
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
  const [graph, weights] = [part('graph'), part('weights')];
  const content = `${hex(graph.digest)}-${hex(weights.digest)}`;
  return { model, version, content, graph, weights, manifest, signed, digest: await sha256(signed.manifest) };

  function part(role: string): Artifact {
    const artifact = manifest.artifacts.find((each) => each.role === role && each.variant === 'fp32');
    if (artifact !== undefined) return artifact;
    throw new TrustError(
      `version ${manifest.version} of '${model}' names no fp32 ${role}; this SDK may be too old for it`,
    );
  }
}
