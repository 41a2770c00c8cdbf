import { generateKeyPairSync, sign } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { sha256 } from '@commonweight/client-sdk';
import { openCoordinator, type CoordinatorService } from '@commonweight/coordinator';
import {
  contractOf,
  encodeStep,
  roundedVersion,
  splitModel,
  weightsToBytes,
  type ModelProto,
} from '@commonweight/core';
import {
  ArtifactSchema,
  ManifestSchema,
  signedBytes,
  SignedManifestSchema,
  type Artifact,
  type SignedChannel,
  type SignedManifest,
} from '@commonweight/proto';
import { serveGrpc } from '../../coordinator/src/edges/grpc/server.ts';
import { serveHttp } from '../../coordinator/src/edges/http/server.ts';
import { serveNats } from '../../coordinator/src/edges/nats/server.ts';
import { temporaryFolder } from './processes.ts';
import { signedChannel, type Saying } from './signed-channel.ts';

/** A release as it goes over the wire, with its blobs. */
export interface Published {
  signed: SignedManifest;
  graph: Uint8Array;
  weights: Uint8Array;
}

export interface PublishOptions {
  model?: string;
  change?: (weights: Float32Array) => void;
  /** What the manifest says of the blobs, if not the truth. */
  sizeError?: bigint;
  /** Makes the version a step from the one published before; `harm` changes the bytes of its delta. */
  delta?: { harm?: (bytes: Uint8Array) => Uint8Array };
}

/** Where it listens; `nats` is where the server of that is. */
export interface Ports {
  grpc: number;
  http: number;
  nats: number;
}

/**
 * A coordinator whose edges are the real ones and whose releases are what a test wants them to be: damaged, unsigned,
 * older, rolled back.
 */
export class Publisher {
  readonly #keys = generateKeyPairSync('ed25519');
  readonly #blobs = new Map<string, Uint8Array>();
  readonly #versions = new Map<string, SignedManifest>();
  readonly #newest = new Map<string, SignedManifest>();
  /** By model: the weights of the version published last, and the deltas that lead to it. */
  readonly #chains = new Map<string, { weights: Float32Array; deltas: Artifact[] }>();
  readonly #watchers = new Set<(model: string, release: SignedManifest) => void>();
  readonly #channelWatchers = new Set<(model: string, channel: string, record: SignedChannel) => void>();
  #record: SignedChannel | undefined;
  readonly #inner: CoordinatorService;
  #edges: { close(): Promise<void> }[] = [];
  readonly #ports: Ports;
  /** What a reader gets instead of a blob's bytes. */
  damage: (data: Uint8Array) => Uint8Array = (data) => data;
  bytesRead = 0;

  private constructor(inner: CoordinatorService, ports: Ports) {
    this.#inner = inner;
    this.#ports = ports;
  }

  static async open(ports: Ports): Promise<Publisher> {
    const publisher = new Publisher(await openCoordinator({ dataDir: temporaryFolder('publisher') }), ports);
    await publisher.start();
    return publisher;
  }

  /** Listens, again after `stop`. */
  async start(): Promise<void> {
    const [host, service, { grpc, http, nats }] = ['127.0.0.1', this.#service(), this.#ports];
    this.#edges = [
      await serveGrpc(service, { host, port: grpc }),
      await serveHttp(service, { host, port: http }),
      await serveNats(service, { url: `nats://${host}:${nats}`, log: () => {} }),
    ];
  }

  /** Is away, and forgets nothing. */
  async stop(): Promise<void> {
    await Promise.all(this.#edges.splice(0).map((edge) => edge.close()));
  }

  publish(version: number, model: ModelProto, options: PublishOptions = {}): Published {
    const { change = () => {}, sizeError = 0n, model: name = 'm', delta } = options;
    const { graph, weights: wanted } = splitModel(model);
    change(wanted);
    const before = this.#chains.get(name);
    const rounded = delta && before && roundedVersion(before.weights, wanted, undefined, 'mxint4');
    const weights = rounded?.weights ?? wanted;
    const blobs = { graph, weights: weightsToBytes(weights) };
    const artifactOf = (role: string, bytes: Uint8Array) => {
      const digest = sha256(bytes);
      this.#blobs.set(Buffer.from(digest).toString('hex'), bytes);
      return create(ArtifactSchema, { role, variant: 'fp32', digest, size: BigInt(bytes.length) + sizeError });
    };
    const artifacts = Object.entries(blobs).map(([role, bytes]) => artifactOf(role, bytes));
    const earlierDeltas = before?.deltas ?? [];
    const deltas: Artifact[] = [];
    if (rounded !== undefined && before !== undefined) {
      const step = encodeStep(rounded.step);
      const fromDigest = sha256(weightsToBytes(before.weights));
      const toDigest = sha256(blobs.weights);
      deltas.push({ ...artifactOf('delta', delta?.harm?.(step) ?? step), fromDigest, toDigest });
    }
    this.#chains.set(name, { weights, deltas: [...deltas, ...earlierDeltas] });
    const { inputs, outputs } = contractOf(model);
    const wire = ({ name: tensor, dtype, dims }: (typeof inputs)[number]) => ({
      name: tensor,
      dtype,
      dims: dims.map(BigInt),
    });
    const contract = { inputs: inputs.map(wire), outputs: outputs.map(wire) };
    const manifest = create(ManifestSchema, {
      model: name,
      version: BigInt(version),
      artifacts: [...artifacts, ...deltas],
      earlierDeltas,
      ...contract,
    });
    const signed = this.signed(toBinary(ManifestSchema, manifest));
    this.#versions.set(`${name} ${version}`, signed);
    this.announce(signed, name);
    return { signed, ...blobs };
  }

  signed(manifest: Uint8Array): SignedManifest {
    const { privateKey, publicKey } = this.#keys;
    return create(SignedManifestSchema, {
      manifest,
      signature: sign(null, signedBytes('Manifest', manifest), privateKey),
      publicKey: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32),
    });
  }

  /** A version that was published. */
  released(version: number, model: string = 'm'): SignedManifest {
    const signed = this.#versions.get(`${model} ${version}`);
    if (signed === undefined) throw new Error(`version ${version} of ${model} was not published`);
    return signed;
  }

  /** Says that this is the newest, whatever it is. */
  announce(signed: SignedManifest, model: string = 'm'): void {
    this.#newest.set(model, signed);
    for (const tell of this.#watchers) tell(model, signed);
  }

  /** Has channel `stable` of `m` say something. */
  say(revision: number, version: number, saying: Saying = {}): SignedChannel {
    const digestOf = (named: number): Uint8Array =>
      sha256(this.#versions.get(`m ${named}`)?.manifest ?? new Uint8Array());
    const record = signedChannel(this.#keys.privateKey, revision, version, { digestOf, ...saying });
    this.tell(record);
    return record;
  }

  /** Says that this is the newest record, whatever it is. */
  tell(record: SignedChannel): void {
    this.#record = record;
    for (const tell of this.#channelWatchers) tell('m', 'stable', record);
  }

  #service(): CoordinatorService {
    const overrides: Partial<CoordinatorService> = {
      // Whatever version is asked for after a lie was announced, the lie is told on.
      getModel: (model, version) => {
        const newest = this.#newest.get(model);
        if (newest === undefined) return this.#inner.getModel(model, version);
        return Promise.resolve(version === 0 ? newest : (this.#versions.get(`${model} ${version}`) ?? newest));
      },
      watchModel: (model, onRelease) => {
        const tell = (of: string, release: SignedManifest): void => {
          if (of === model) onRelease(release);
        };
        const newest = this.#newest.get(model);
        if (newest !== undefined) onRelease(newest);
        return this.#watch(tell);
      },
      getChannel: (model, channel) =>
        this.#record === undefined ? this.#inner.getChannel(model, channel) : Promise.resolve(this.#record),
      watchChannel: (model, channel, onRecord) => {
        const tell = (of: string, name: string, record: SignedChannel): void => {
          if (of === model && name === channel) onRecord(record);
        };
        if (this.#record !== undefined) tell('m', 'stable', this.#record);
        this.#channelWatchers.add(tell);
        return () => this.#channelWatchers.delete(tell);
      },
      watchChannels: (onRecord) => {
        this.#channelWatchers.add(onRecord);
        return () => this.#channelWatchers.delete(onRecord);
      },
      watchReleases: (onRelease) => this.#watch(onRelease),
      readBlob: (digest, offset, lengthMax) => {
        const blob = this.#blobs.get(Buffer.from(digest).toString('hex'));
        if (blob === undefined) return this.#inner.readBlob(digest, offset, lengthMax);
        const data = this.damage(blob.slice(offset, offset + lengthMax));
        this.bytesRead += data.length;
        return Promise.resolve({ data, totalSize: blob.length });
      },
    };
    return new Proxy(this.#inner, {
      get: (of, name: keyof CoordinatorService) => {
        const value = overrides[name] ?? of[name];
        return typeof value === 'function' ? (value as () => unknown).bind(of) : value;
      },
    });
  }

  #watch(tell: (model: string, release: SignedManifest) => void): () => void {
    this.#watchers.add(tell);
    return () => this.#watchers.delete(tell);
  }

  async close(): Promise<void> {
    await this.stop();
    await this.#inner.close();
  }
}
