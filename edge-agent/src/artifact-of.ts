import { CodecError } from '@commonweight/core';
import type { Artifact, Candidate, Manifest } from '@commonweight/proto';

/** One part of a version or a candidate. Throws CodecError where it has none. */
export function artifactOf(of: Manifest | Candidate, role: string): Artifact {
  const found = of.artifacts.find((artifact) => artifact.role === role);
  if (found !== undefined) return found;
  const what = of.$typeName === 'commonweight.v1.Candidate' ? `candidate ${of.number}` : `version ${of.version}`;
  throw new CodecError(`${what} of ${of.model} has no ${role}`);
}
