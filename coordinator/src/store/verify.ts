import { create, fromBinary } from '@bufbuild/protobuf';
import {
  ContributionListSchema,
  openManifest,
  openReceipt,
  SignedManifestSchema,
  SignedReceiptSchema,
  equalBytes,
  type Manifest,
  type VerifyEd25519,
} from '@commonweight/proto';
import { verifierOf } from '../identity/signer.ts';
import { sha256 } from '../registry/registry.ts';
import type { Store, VersionRecord } from './store.ts';

/** What of a model was looked at. */
export interface ModelReport {
  model: string;
  versions: number;
  updates: number;
  bytes: number;
}

export interface VerifyReport {
  models: ModelReport[];
  /** What is not as it was signed, each in a line that names it. */
  damages: string[];
}

interface Trusted {
  publicKey: Uint8Array;
  verify: VerifyEd25519;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/**
 * Reads a store from end to end: every manifest against its digest, its signature and its parent, every blob against its digest, every list of
 * contributions against its manifest and against the receipts. Throws nothing for damage: it is reported, and the rest is looked at all the same.
 */
export async function verifyStore(
  store: Store,
  publicKey: Uint8Array,
  onVersion: (model: string, version: number) => void = () => {},
): Promise<VerifyReport> {
  const key: Trusted = { publicKey, verify: verifierOf(publicKey) };
  const report: VerifyReport = { models: [], damages: [] };
  const inVersion = new Map<string, string>();
  for (const model of await store.models()) {
    const found: ModelReport = { model, versions: 0, updates: 0, bytes: 0 };
    let parent: VersionRecord | undefined;
    for (const record of await store.versions(model)) {
      const name = `version ${record.version} of ${model}`;
      const damage = (text: string): void => void report.damages.push(`${name}: ${text}`);
      onVersion(model, record.version);
      found.versions += 1;
      if (record.version !== (parent?.version ?? 0) + 1)
        damage(`version ${(parent?.version ?? 0) + 1} is missing before it`);
      const manifest = openedManifest(record, key, damage);
      if (manifest !== undefined) {
        if (!equalBytes(manifest.parentDigest, parent?.digest ?? new Uint8Array()))
          damage('its parent is another manifest');
        if (manifest.model !== model || Number(manifest.version) !== record.version)
          damage('its manifest is of another version');
        for (const { role, digest, size } of manifest.artifacts) {
          const blob = await blobOf(store, digest);
          if (typeof blob === 'string') damage(`its ${role} ${blob}`);
          else if (blob.length !== Number(size)) damage(`its ${role} has ${blob.length} bytes and not ${size}`);
          else found.bytes += blob.length;
        }
        found.updates += await verifyContributions(store, manifest, key, inVersion, damage);
      }
      parent = record;
    }
    report.models.push(found);
  }
  return report;
}

function openedManifest(
  record: VersionRecord,
  { publicKey, verify }: Trusted,
  damage: (text: string) => void,
): Manifest | undefined {
  if (!equalBytes(sha256(record.manifest), record.digest)) damage('its manifest does not have its digest');
  const { manifest, signature } = record;
  try {
    return openManifest(create(SignedManifestSchema, { manifest, signature, publicKey }), publicKey, verify);
  } catch (error) {
    damage((error as Error).message);
    return undefined;
  }
}

/** Counts the updates of a version. */
async function verifyContributions(
  store: Store,
  manifest: Manifest,
  { publicKey, verify }: Trusted,
  inVersion: Map<string, string>,
  damage: (text: string) => void,
): Promise<number> {
  if (manifest.contributionsDigest.length === 0) return 0;
  const blob = await blobOf(store, manifest.contributionsDigest);
  if (typeof blob === 'string') {
    damage(`its list of contributions ${blob}`);
    return 0;
  }
  const { accepted } = fromBinary(ContributionListSchema, blob);
  const total = accepted.reduce((sum, { weight }) => sum + weight, 0n);
  if (total !== manifest.totalWeight) damage(`it weighs ${manifest.totalWeight} and its list ${total}`);
  for (const { updateId } of accepted) {
    const id = hex(updateId);
    const before = inVersion.get(id);
    if (before !== undefined) damage(`update ${id} is in ${before} already`);
    inVersion.set(id, `version ${manifest.version} of ${manifest.model}`);
    const record = await store.receipt(updateId);
    if (record === undefined) {
      damage(`update ${id} has no receipt`);
      continue;
    }
    const { receipt, signature } = record;
    try {
      const signed = create(SignedReceiptSchema, { receipt, signature, publicKey });
      const { outcome } = openReceipt(signed, publicKey, verify);
      if (outcome.case !== 'committedVersion' || outcome.value !== manifest.version) {
        damage(`update ${id} has a receipt that says ${outcome.case} ${outcome.value}`);
      }
    } catch (error) {
      damage(`update ${id}: ${(error as Error).message}`);
    }
  }
  return accepted.length;
}

/** The whole blob, or what is wrong with it. */
async function blobOf(store: Store, digest: Uint8Array): Promise<Uint8Array | string> {
  try {
    const size = await store.blobSize(digest);
    if (size === undefined) return `is missing (blob ${hex(digest)})`;
    const blob = await store.readBlob(digest, 0, size);
    return equalBytes(sha256(blob), digest) ? blob : `is damaged (blob ${hex(digest)})`;
  } catch (error) {
    return `cannot be read: ${(error as Error).message}`;
  }
}
