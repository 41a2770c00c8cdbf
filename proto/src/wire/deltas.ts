import type { Artifact, Manifest } from '../gen/commonweight/v1/release_pb.ts';

/** Deltas that lead one after the other from weights that are there to those of a version. */
export interface DeltaPath {
  /** Digest of the weights to begin with. */
  from: Uint8Array;
  deltas: readonly Artifact[];
  bytes: number;
}

/** Deltas of a manifest that are looked at: more than a coordinator lists. */
const DELTAS_MAX = 64;

/** Every delta that a manifest knows of: its own, and those of versions before. */
export const deltasOf = ({ artifacts, earlierDeltas }: Pick<Manifest, 'artifacts' | 'earlierDeltas'>): Artifact[] => [
  ...artifacts.filter(({ role }) => role === 'delta'),
  ...earlierDeltas.filter(({ role }) => role === 'delta'),
];

/**
 * The ways to a version's weights by deltas, from every older version that they lead from, each the one of the fewest bytes, the cheapest
 * first; only those of fewer bytes than the weights themselves.
 */
export function deltaPaths(
  manifest: Pick<Manifest, 'artifacts' | 'earlierDeltas'>,
  { digest, size }: Pick<Artifact, 'digest' | 'size'>,
): DeltaPath[] {
  const bytesMax = Number(size);
  const steps = deltasOf(manifest).slice(0, DELTAS_MAX);
  const open = new Map<string, DeltaPath>([[hex(digest), { from: digest, deltas: [], bytes: 0 }]]);
  const found: DeltaPath[] = [];
  // The weights from which the fewest bytes lead here are settled first; every delta costs something.
  while (open.size > 0) {
    const [key, path] = [...open].reduce((least, one) => (one[1].bytes < least[1].bytes ? one : least));
    open.delete(key);
    if (found.some(({ from }) => hex(from) === key)) continue;
    found.push(path);
    for (const delta of steps) {
      if (hex(delta.toDigest) !== key || found.some(({ from }) => hex(from) === hex(delta.fromDigest))) continue;
      const bytes = path.bytes + Number(delta.size);
      const known = open.get(hex(delta.fromDigest));
      if (bytes >= bytesMax || (known !== undefined && known.bytes <= bytes)) continue;
      open.set(hex(delta.fromDigest), { from: delta.fromDigest, deltas: [delta, ...path.deltas], bytes });
    }
  }
  return found.slice(1);
}

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
