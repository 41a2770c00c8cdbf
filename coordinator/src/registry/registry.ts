import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  contractOf,
  invariant,
  readModel,
  requireRunnable,
  splitModel,
  weightsFromBytes,
  weightsToBytes,
  type ModelProto,
} from '@commonweight/core';
import {
  equalBytes,
  ManifestSchema,
  openVariantList,
  SignedManifestSchema,
  SignedVariantListSchema,
  TensorContractSchema,
  type Manifest,
  type SignedManifest,
  type SignedVariantList,
} from '@commonweight/proto';
import { verifierOf, type Signer } from '../identity/signer.ts';
import { ServiceError } from '../service.ts';
import { artifact, artifactOf, blobOf, sha256 } from './artifacts.ts';
import { travelling, type Rounding } from './delta-chain.ts';
import { StoreError, type BlobRecord, type Store, type StoreReads, type VersionRecord } from '../store/store.ts';

/** A version that is ready to be worked with. */
export interface OpenVersion {
  manifest: Manifest;
  digest: Uint8Array;
  signed: SignedManifest;
  weights: Float32Array;
  /** What the strategy remembered with this version. */
  memory: readonly Float32Array[];
  /** What rounding left of this version, where it was rounded. */
  remainder?: Float32Array | undefined;
}

export { artifact, artifactOf, blobOf, sha256 } from './artifacts.ts';

/** What a version is made from. */
export interface VersionDraft {
  model: string;
  weights: Float32Array;
  memory: readonly Float32Array[];
  /** Where the version is a step from its parent: the step, and what rounding left. */
  rounding?: Rounding | undefined;
  /** The rest of the manifest; artifacts and contract are taken from the parent. */
  manifest: Partial<Omit<Manifest, '$typeName' | '$unknown' | 'artifacts' | 'epoch'>>;
}

/** Models and their versions as they are: a chain of signed manifests. */
export class RegistryReads {
  readonly publicKey: Uint8Array;
  readonly #store: StoreReads;

  constructor(store: StoreReads, publicKey: Uint8Array) {
    this.#store = store;
    this.publicKey = publicKey;
  }

  /** A version to work with; 0 is the newest. */
  async open(model: string, version: number = 0): Promise<OpenVersion> {
    const record = await this.#record(model, version);
    const manifest = fromBinary(ManifestSchema, record.manifest);
    const weights = weightsFromBytes(await this.blob(artifact(manifest, 'weights').digest));
    const kept = manifest.artifacts.find(({ role }) => role === 'server-memory');
    const memory = kept === undefined ? [] : parted(await this.blob(kept.digest), weights.length);
    const left = manifest.artifacts.find(({ role }) => role === 'remainder');
    const remainder = left === undefined ? undefined : weightsFromBytes(await this.blob(left.digest));
    return { manifest, digest: record.digest, signed: this.toWire(record), weights, memory, remainder };
  }

  async graph(manifest: Manifest): Promise<ModelProto> {
    return readModel(await this.blob(artifact(manifest, 'graph').digest));
  }

  /** The model's newest manifest, without its weights. */
  async newest(model: string): Promise<Manifest> {
    return fromBinary(ManifestSchema, (await this.release(model, 0)).manifest);
  }

  async release(model: string, version: number): Promise<SignedManifest> {
    return this.toWire(await this.#record(model, version));
  }

  async #record(model: string, version: number): Promise<VersionRecord> {
    const record = version === 0 ? await this.#store.newestVersion(model) : await this.#store.version(model, version);
    if (record !== undefined) return record;
    if (version === 0 || (await this.#store.newestVersion(model)) === undefined) throw noModel(model);
    throw new ServiceError(
      'not-found',
      `model "${model}" has no version ${version}: see \`commonweight model show ${model}\``,
    );
  }

  /** The forms of a version, 0 being the newest; undefined where none were made. */
  async variants(model: string, version: number): Promise<SignedVariantList | undefined> {
    const manifest = fromBinary(ManifestSchema, (await this.release(model, version)).manifest);
    const record = await this.#store.variants(model, Number(manifest.version));
    if (record === undefined) return undefined;
    const { list, signature } = record;
    const signed = create(SignedVariantListSchema, { list, signature, publicKey: this.publicKey });
    try {
      const opened = openVariantList(signed, this.publicKey, verifierOf(this.publicKey));
      invariant(opened.model === model && opened.version === manifest.version, 'a list is kept with its version');
    } catch (cause) {
      // Else what is found of a form later would sign the damage anew.
      throw new StoreError(`the forms of version ${manifest.version} of ${model} are damaged: restore a backup`, {
        cause,
      });
    }
    return signed;
  }

  async blob(digest: Uint8Array): Promise<Uint8Array> {
    const size = await this.#store.blobSize(digest);
    // One that was let go says so.
    const bytes = await this.#store.readBlob(digest, 0, size ?? 0);
    if (size === undefined)
      throw new ServiceError('not-found', `there is no blob ${Buffer.from(digest).toString('hex')}`);
    // The store answers for each chunk; that they are the right ones in the right order is only seen here.
    if (!equalBytes(sha256(bytes), digest)) {
      throw new StoreError(
        `blob ${Buffer.from(digest).toString('hex')} is not what its name says: restore the data folder from a backup, or see \`commonweight verify --repair-from\``,
      );
    }
    return bytes;
  }

  toWire({ manifest, signature }: VersionRecord): SignedManifest {
    return create(SignedManifestSchema, { manifest, signature, publicKey: this.publicKey });
  }
}

/** The registry of the coordinator that commits. */
export class Registry extends RegistryReads {
  readonly #store: Store;
  readonly #signer: Signer;

  constructor(store: Store, signer: Signer) {
    super(store, signer.publicKey);
    this.#store = store;
    this.#signer = signer;
  }

  /** Reads an ONNX file and commits it as the model's first version. */
  async importModel(model: string, onnx: Uint8Array, createdMs: number): Promise<SignedManifest> {
    if ((await this.#store.newestVersion(model)) !== undefined) throw isThere(model);
    const whole = readModel(onnx);
    requireRunnable(whole);
    const { graph, weights } = splitModel(whole);
    const { inputs, outputs } = contractOf(readModel(graph));
    const tensors = (specs: typeof inputs) =>
      specs.map(({ name, dtype, dims, symbols = [] }) =>
        create(TensorContractSchema, { name, dtype, dims: dims.map(BigInt), symbols: [...symbols] }),
      );
    const blobs = [blobOf(graph), blobOf(weightsToBytes(weights))];
    const manifest = create(ManifestSchema, {
      model,
      version: 1n,
      artifacts: [artifactOf('graph', blobs[0]!), artifactOf('weights', blobs[1]!)],
      inputs: tensors(inputs),
      outputs: tensors(outputs),
      createdMs: BigInt(createdMs),
      epoch: BigInt(this.#store.lease.epoch),
    });
    const version = this.#sign(manifest);
    try {
      await this.#store.commit({ version, blobs });
    } catch (cause) {
      // Another import of the same name was faster: the store took only one.
      if ((await this.#store.newestVersion(model)) !== undefined) throw isThere(model, { cause });
      throw cause;
    }
    return this.toWire(version);
  }

  /** The record and blobs of a version's child; the caller commits them with what belongs to them. */
  child(parent: OpenVersion, draft: VersionDraft): { version: VersionRecord; blobs: BlobRecord[]; open: OpenVersion } {
    const weights = blobOf(weightsToBytes(draft.weights));
    const graph = artifact(parent.manifest, 'graph');
    const memory = draft.memory.length === 0 ? undefined : blobOf(joined(draft.memory));
    const { delta, earlierDeltas, remainder } = travelling(parent.manifest, weights, draft.rounding);
    const blobs = [weights, memory, delta?.blob, remainder].filter((blob) => blob !== undefined);
    const { evaluation: _, ...inherited } = parent.manifest;
    const manifest = create(ManifestSchema, {
      ...inherited,
      candidate: 0n,
      ...draft.manifest,
      version: parent.manifest.version + 1n,
      restoredVersion: 0n,
      epoch: BigInt(this.#store.lease.epoch),
      parentDigest: parent.digest,
      artifacts: [
        graph,
        artifactOf('weights', weights),
        ...(memory === undefined ? [] : [artifactOf('server-memory', memory)]),
        ...(delta === undefined ? [] : [delta.artifact]),
        ...(remainder === undefined ? [] : [artifactOf('remainder', remainder)]),
      ],
      earlierDeltas,
    });
    const version = this.#sign(manifest);
    const signed = this.toWire(version);
    const open: OpenVersion = {
      manifest,
      digest: version.digest,
      signed,
      weights: draft.weights,
      memory: draft.memory,
      remainder: draft.rounding?.remainder,
    };
    return { version, blobs, open };
  }

  /** A version after the newest, with what an older one has; its blobs are there. Throws ServiceError where that is not to be had. */
  async restored(
    model: string,
    version: number,
    createdMs: number,
  ): Promise<{ version: VersionRecord; open: OpenVersion }> {
    const newest = await this.release(model, 0);
    const parent = fromBinary(ManifestSchema, newest.manifest);
    const record = await this.#store.version(model, version);
    if (record === undefined || version >= Number(parent.version)) {
      const range = parent.version === 1n ? 'there is none' : `choose one from 1 to ${parent.version - 1n}`;
      throw new ServiceError('invalid', `version ${version} of ${model} is no older one: ${range}`);
    }
    if (record.isCollected === true) {
      throw new ServiceError(
        'invalid',
        `the weights of version ${version} of ${model} were let go: \`commonweight model show ${model}\` says which are here, and a pin keeps one`,
      );
    }
    const older = await this.open(model, version).catch((cause: unknown) => {
      // Damage of a version that nobody needs to go on is no end of the process.
      if (!(cause instanceof StoreError)) throw cause;
      throw new ServiceError('invalid', cause.message, { cause });
    });
    const manifest = create(ManifestSchema, {
      ...older.manifest,
      version: parent.version + 1n,
      epoch: BigInt(this.#store.lease.epoch),
      parentDigest: sha256(newest.manifest),
      totalWeight: 0n,
      contributionsDigest: new Uint8Array(),
      restoredVersion: BigInt(version),
      candidate: 0n,
      createdMs: BigInt(createdMs),
    });
    const signed = this.#sign(manifest);
    return { version: signed, open: { ...older, manifest, digest: signed.digest, signed: this.toWire(signed) } };
  }

  #sign(manifest: Manifest): VersionRecord {
    const bytes = toBinary(ManifestSchema, manifest);
    return {
      model: manifest.model,
      version: Number(manifest.version),
      manifest: bytes,
      signature: this.#signer.sign('Manifest', bytes),
      digest: sha256(bytes),
      parentDigest: manifest.parentDigest,
    };
  }
}

/** Parameters of a version: its weights are float32. */
export const parameters = (manifest: Manifest): bigint => artifact(manifest, 'weights').size / 4n;

/** Vectors of one length, one after the other. */
export const joined = (vectors: readonly Float32Array[]): Uint8Array => Buffer.concat(vectors.map(weightsToBytes));

export function parted(bytes: Uint8Array, length: number): Float32Array[] {
  const values = weightsFromBytes(bytes);
  invariant(values.length % length === 0, "what a strategy remembers are vectors of the model's length");
  return Array.from({ length: values.length / length }, (_, i) => values.subarray(i * length, (i + 1) * length));
}

const isThere = (model: string, options?: ErrorOptions): ServiceError =>
  new ServiceError('already-exists', `model "${model}" is there already: choose another name`, options);

const noModel = (model: string): ServiceError =>
  new ServiceError('not-found', `there is no model "${model.slice(0, 80)}": see \`commonweight model list\``);
