import { createHash } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { ArtifactSchema, type Artifact, type Manifest } from '@commonweight/proto';
import { ServiceError } from '../service.ts';
import type { BlobRecord } from '../store/store.ts';

export type ArtifactRole = 'graph' | 'weights' | 'server-memory' | 'delta' | 'remainder';

export const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();

export const blobOf = (data: Uint8Array): BlobRecord => ({ digest: sha256(data), data });

/** The artifact of a manifest by its role. */
export function artifact(manifest: Manifest, role: 'graph' | 'weights'): Artifact {
  const found = manifest.artifacts.find((candidate) => candidate.role === role);
  if (found === undefined)
    throw new ServiceError('invalid', `version ${manifest.version} of ${manifest.model} has no ${role}`);
  return found;
}

export const artifactOf = (role: ArtifactRole, { digest, data }: BlobRecord): Artifact =>
  create(ArtifactSchema, { role, variant: 'fp32', digest, size: BigInt(data.length) });
