import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { sha256, sleep, TransportError, type ModelLink } from '@commonweight/client-sdk';
import { contractOf, splitModel, weightsToBytes, type ModelProto } from '@commonweight/core';
import {
  ManifestSchema,
  signedBytes,
  SignedManifestSchema,
  type SignedChannel,
  type SignedManifest,
} from '@commonweight/proto';
import { signedChannel, type Saying } from './signed-channel.ts';

/** A coordinator's releases in memory. */
export class MemoryLink implements ModelLink {
  readonly #blobs = new Map<string, Uint8Array>();
  readonly #watchers = new Set<(release: SignedManifest) => void>();
  readonly #versions = new Map<number, SignedManifest>();
  readonly #channelWatchers = new Set<(record: SignedChannel) => void>();
  record: SignedChannel | undefined;
  #privateKey: KeyObject;

  /** A private key as PEM, or one of its own. */
  constructor(pem?: Uint8Array) {
    this.#privateKey =
      pem === undefined ? generateKeyPairSync('ed25519').privateKey : createPrivateKey(Buffer.from(pem));
  }

  newest: SignedManifest | undefined;
  online = true;
  downloads = 0;
  /** Bytes of what was published. */
  readonly sizes: { graph: number; weights: number }[] = [];

  publish(version: number, model: ModelProto, change: (weights: Float32Array) => void = () => {}): void {
    const { graph, weights } = splitModel(model);
    change(weights);
    this.sizes.push({ graph: graph.length, weights: weights.byteLength });
    const artifact = (role: string, bytes: Uint8Array) => {
      const digest = sha256(bytes);
      this.#blobs.set(Buffer.from(digest).toString('hex'), bytes);
      return { role, variant: 'fp32', digest, size: BigInt(bytes.length) };
    };
    const { inputs, outputs } = contractOf(model);
    const wire = ({ name, dtype, dims }: (typeof inputs)[number]) => ({ name, dtype, dims: dims.map(BigInt) });
    const manifest = toBinary(
      ManifestSchema,
      create(ManifestSchema, {
        model: 'm',
        version: BigInt(version),
        artifacts: [artifact('graph', graph), artifact('weights', weightsToBytes(weights))],
        inputs: inputs.map(wire),
        outputs: outputs.map(wire),
      }),
    );
    this.newest = create(SignedManifestSchema, {
      manifest,
      signature: sign(null, signedBytes('Manifest', manifest), this.#privateKey),
      publicKey: createPublicKey(this.#privateKey).export({ format: 'der', type: 'spki' }).subarray(-32),
    });
    this.#versions.set(version, this.newest);
    this.announce(this.newest);
  }

  /** Has channel `stable` say something. */
  say(revision: number, version: number, saying: Saying = {}): SignedChannel {
    const digestOf = (named: number): Uint8Array => sha256(this.#versions.get(named)?.manifest ?? new Uint8Array());
    const signed = signedChannel(this.#privateKey, revision, version, { digestOf, ...saying });
    this.tell(signed);
    return signed;
  }

  /** Says that this is the newest record, whatever it is. */
  tell(record: SignedChannel): void {
    this.record = record;
    if (this.online) for (const tell of this.#channelWatchers) tell(record);
  }

  getChannel(): Promise<SignedChannel> {
    if (!this.online) return Promise.reject(new TransportError('unavailable', 'offline'));
    if (this.record === undefined) return Promise.reject(new TransportError('not-found', 'no channel'));
    return Promise.resolve(this.record);
  }

  watchChannel(
    _: string,
    __: string,
    onRecord: (record: SignedChannel) => void,
    onDown?: (error: TransportError) => void,
  ): () => void {
    this.#channelWatchers.add(onRecord);
    if (!this.online) onDown?.(new TransportError('unavailable', 'offline'));
    else if (this.record !== undefined) onRecord(this.record);
    return () => void this.#channelWatchers.delete(onRecord);
  }

  announce(release: SignedManifest): void {
    if (this.online) for (const tell of this.#watchers) tell(release);
  }

  /** As after the coordinator's data was lost. */
  changeKey(): void {
    this.#privateKey = generateKeyPairSync('ed25519').privateKey;
  }

  getModel(_: string, version: number): Promise<SignedManifest> {
    if (!this.online) return Promise.reject(new TransportError('unavailable', 'offline'));
    const found = version === 0 ? this.newest : this.#versions.get(version);
    if (found === undefined) return Promise.reject(new TransportError('not-found', 'no model'));
    return Promise.resolve(found);
  }

  watchModel(
    _: string,
    onRelease: (release: SignedManifest) => void,
    onDown?: (error: TransportError) => void,
  ): () => void {
    this.#watchers.add(onRelease);
    if (!this.online) onDown?.(new TransportError('unavailable', 'offline'));
    else if (this.newest !== undefined) onRelease(this.newest);
    return () => void this.#watchers.delete(onRelease);
  }

  async download(digest: Uint8Array): Promise<Uint8Array> {
    await sleep(1);
    const blob = this.#blobs.get(Buffer.from(digest).toString('hex'));
    if (!this.online || blob === undefined) throw new TransportError('unavailable', 'offline');
    this.downloads += 1;
    return blob;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
