import { create, fromBinary } from '@bufbuild/protobuf';
import {
  ContributionListSchema,
  openManifest,
  openReceipt,
  openVariantList,
  SignedManifestSchema,
  SignedReceiptSchema,
  SignedVariantListSchema,
  UpdateHeaderSchema,
  equalBytes,
  type Manifest,
  type VerifyEd25519,
} from '@commonweight/proto';
import { verifierOf } from '../identity/signer.ts';
import { channelDamage } from '../channels/channel-record.ts';
import { sha256 } from '../registry/registry.ts';
import { StoreError, type StoreReads, type VersionRecord } from './store.ts';
import { verifyDecisions } from './verify-decisions.ts';

/** What of a model was looked at. */
export interface ModelReport {
  model: string;
  versions: number;
  updates: number;
  bytes: number;
  /** Versions whose graph, weights and memory were let go by policy. */
  collected: number;
  /** Updates that are kept for audits. */
  retained: number;
}

/** A blob that is not what its name says, or is gone. */
export interface DamagedBlob {
  digest: Uint8Array;
  size: number;
}

export interface VerifyReport {
  models: ModelReport[];
  /** What is not as it was signed, each in a line that names it. */
  damages: string[];
  /** Blobs among the damages: another copy of each can take its place. */
  blobs: DamagedBlob[];
}

interface Trusted {
  publicKey: Uint8Array;
  verify: VerifyEd25519;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/**
 * Reads a store from end to end: every manifest against its digest, its signature and its parent, every blob against its digest, every list of
 * contributions against its manifest and against the receipts, every retained update against its header, every candidate and result against its
 * signature and blobs, every channel against its signature and the versions that it names. What was collected by policy is no damage. Throws
 * nothing for damage: it is reported, and the rest is looked at all the same.
 */
export async function verifyStore(
  store: StoreReads,
  publicKey: Uint8Array,
  onVersion: (model: string, version: number) => void = () => {},
): Promise<VerifyReport> {
  const key: Trusted = { publicKey, verify: verifierOf(publicKey) };
  const report: VerifyReport = { models: [], damages: [], blobs: [] };
  const inVersion = new Map<string, string>();
  const deltas = new Set<string>();
  for (const model of await store.models()) {
    const found: ModelReport = { model, versions: 0, updates: 0, bytes: 0, collected: 0, retained: 0 };
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
        if (record.isCollected === true) found.collected += 1;
        const look: Look = { store, record, damage, report };
        for (const { role, digest, size } of [...manifest.artifacts, ...manifest.earlierDeltas]) {
          const bytes = await verifyBlob(look, { role, digest, size: Number(size) });
          // Each delta is in several manifests, and counts once.
          if (role !== 'delta' || !deltas.has(hex(digest))) found.bytes += bytes;
          if (role === 'delta') deltas.add(hex(digest));
        }
        found.bytes += await verifyVariants(look, key);
        found.retained += await verifyRetained(store, manifest, damage);
        found.updates += await verifyContributions({ store, manifest, key, inVersion, damage, report });
      }
      parent = record;
    }
    await verifyDecisions(model, {
      store,
      ...key,
      damage: (text) => void report.damages.push(`${model}: ${text}`),
      blob: async (what, digest, size) => {
        const blob = await blobOf(store, digest);
        if (blob instanceof Uint8Array && (size === 0 || blob.length === size)) return;
        const wrong = blob instanceof Uint8Array ? `has ${blob.length} bytes and not ${size}` : blob;
        report.damages.push(`${model}: ${what} ${wrong === 'collected' ? 'was collected' : wrong}`);
        if (wrong !== 'collected') report.blobs.push({ digest, size });
      },
    });
    report.models.push(found);
  }
  await verifyChannels(store, publicKey, report);
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

/** A version that is looked at. */
interface Look {
  store: StoreReads;
  record: VersionRecord;
  damage: (text: string) => void;
  report: VerifyReport;
}

/** Bytes of a blob that is whole. What was let go with its version is no damage. */
async function verifyBlob(
  { store, record, damage, report }: Look,
  { role, digest, size }: { role: string; digest: Uint8Array; size: number },
): Promise<number> {
  const blob = await blobOf(store, digest);
  if (blob instanceof Uint8Array) {
    if (blob.length !== size) damage(`its ${role} has ${blob.length} bytes and not ${size}`);
    return blob.length;
  }
  if (blob === 'collected') {
    if (record.isCollected !== true) damage(`its ${role} was collected, and the version was not (blob ${hex(digest)})`);
    return 0;
  }
  damage(`its ${role} ${blob}`);
  report.blobs.push({ digest, size });
  return 0;
}

/** Bytes of a version's forms. */
async function verifyVariants(look: Look, { publicKey, verify }: Trusted): Promise<number> {
  const { store, record, damage } = look;
  const kept = await store.variants(record.model, record.version);
  if (kept === undefined) return 0;
  const { list, signature } = kept;
  try {
    const signed = create(SignedVariantListSchema, { list, signature, publicKey });
    const { manifestDigest, variants } = openVariantList(signed, publicKey, verify);
    if (!equalBytes(manifestDigest, record.digest)) damage('its list of forms is of another version');
    let bytes = 0;
    for (const { name, digest, size } of variants) {
      if (digest.length > 0) bytes += await verifyBlob(look, { role: name, digest, size: Number(size) });
    }
    return bytes;
  } catch (error) {
    damage(`its list of forms: ${(error as Error).message}`);
    return 0;
  }
}

async function verifyChannels(store: StoreReads, publicKey: Uint8Array, report: VerifyReport): Promise<void> {
  try {
    for (const record of await store.channels()) {
      const digestOf = async (version: number): Promise<Uint8Array | undefined> =>
        (await store.version(record.model, version))?.digest;
      const damage = await channelDamage(record, digestOf, publicKey);
      if (damage !== undefined) report.damages.push(`channel ${record.channel} of ${record.model}: ${damage}`);
    }
  } catch (error) {
    // One that cannot be read hides those behind it, and names itself.
    report.damages.push((error as Error).message);
  }
}

interface Contributions {
  store: StoreReads;
  manifest: Manifest;
  key: Trusted;
  inVersion: Map<string, string>;
  damage: (text: string) => void;
  report: VerifyReport;
}

/** Counts the updates of a version. */
async function verifyContributions(of: Contributions): Promise<number> {
  const { store, manifest, inVersion, damage, report } = of;
  const { publicKey, verify } = of.key;
  const digest = manifest.contributionsDigest;
  if (digest.length === 0) return 0;
  const blob = await blobOf(store, digest);
  if (!(blob instanceof Uint8Array)) {
    damage(`its list of contributions ${blob === 'collected' ? 'was collected, which no policy does' : blob}`);
    // Its size is in no manifest.
    report.blobs.push({ digest, size: 0 });
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

/** Counts the updates that are kept of a version. */
async function verifyRetained(
  store: StoreReads,
  { model, version }: Manifest,
  damage: (text: string) => void,
): Promise<number> {
  const retained = await store.retained(model, Number(version));
  for (const { updateId, header } of retained) {
    const id = hex(updateId);
    try {
      const { payloadDigest, updateId: own } = fromBinary(UpdateHeaderSchema, header);
      if (!equalBytes(own, updateId)) damage(`its retained update ${id} has the header of another`);
      if (!equalBytes(sha256(await store.retainedPayload(updateId)), payloadDigest)) {
        damage(`its retained update ${id} is not what its header says`);
      }
    } catch (error) {
      damage(`its retained update ${id}: ${(error as Error).message}`);
    }
  }
  return retained.length;
}

/** The whole blob, that it was let go, or what is wrong with it. */
async function blobOf(store: StoreReads, digest: Uint8Array): Promise<Uint8Array | string> {
  try {
    const size = await store.blobSize(digest);
    // A blob that was collected says so when it is read.
    const blob = await store.readBlob(digest, 0, size ?? 0);
    if (size === undefined) return `is missing (blob ${hex(digest)})`;
    return equalBytes(sha256(blob), digest) ? blob : `is damaged (blob ${hex(digest)})`;
  } catch (error) {
    if (error instanceof StoreError && error.kind === 'collected') return 'collected';
    return `cannot be read: ${(error as Error).message}`;
  }
}
