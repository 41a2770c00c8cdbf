import { createHash, createPrivateKey } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import {
  DELTA_ONLY,
  encodeStep,
  encodeUpdate,
  encodings,
  ExactSum,
  fedAvg,
  improvedBySum,
  roundedVersion,
  seeded,
  sentLength,
  weightsToBytes,
  type EncodingName,
} from '@commonweight/core';
import {
  ChannelSchema,
  Encoding,
  headerDigest,
  ManifestSchema,
  ReceiptSchema,
  UpdateHeaderSchema,
  updateId,
} from '@commonweight/proto';
import { openSigner } from '../../coordinator/src/identity/signer.ts';
import { temporaryFolder } from '../support/processes.ts';
import { grid, inputs, ROTATION_SEED, SEED, sparseInputs, TOP_K } from './inputs.ts';
import { samples } from './messages.ts';

/** A file of vectors: what it is, by name, as hexadecimal bytes. */
export type Vectors = Readonly<Record<string, string>>;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const sha256 = (bytes: Uint8Array): Uint8Array => new Uint8Array(createHash('sha256').update(bytes).digest());

/** All golden files by their name, as the code of today writes them. */
export const files: Readonly<Record<string, () => Vectors>> = {
  'float32.json': () => payloads('float32'),
  'mxint8.json': () => payloads('mxint8'),
  'mxint4.json': () => payloads('mxint4'),
  'topk-float32.json': () => payloads('topk-float32', sparseInputs),
  'topk-mxint8.json': () => payloads('topk-mxint8', sparseInputs),
  'topk-mxint4.json': () => payloads('topk-mxint4', sparseInputs),
  'rotated-mxint8.json': () => rotated('mxint8'),
  'rotated-mxint4.json': () => rotated('mxint4'),
  'step.json': steps,
  'update-id.json': updateIds,
  'header-digest.json': headerDigests,
  'signed.json': signed,
  'exact-sum.json': sums,
  'wire.json': () => Object.fromEntries(samples().map(({ name, schema, message }) => [name, hex(toBinary(schema, message))])),
};

export const payloadOf = (encoding: EncodingName, values: Float32Array): Uint8Array =>
  encodings[encoding].encode(values, grid, seeded(SEED), TOP_K);

const payloads = (encoding: EncodingName, of: typeof inputs = inputs): Vectors =>
  Object.fromEntries(Object.entries(of).map(([name, values]) => [name, hex(payloadOf(encoding, values))]));

/** What is turned before, and the mean of two turned back. */
function rotated(encoding: 'mxint8' | 'mxint4'): Vectors {
  const format = { encoding, topK: 1, rotationSeed: ROTATION_SEED };
  const names = ['zeros', 'powers of two', 'three blocks, the last one cut', 'nothing'];
  const encoded = (values: Float32Array): Uint8Array => encodeUpdate(values, format, grid, seeded(SEED));
  const values = inputs['three blocks, the last one cut']!;
  const sum = new ExactSum(sentLength(format, values.length), grid);
  sum.add(encoding, encoded(values), 3);
  sum.add(encoding, encoded(values.map((value) => value * value)), 4);
  const { weights } = improvedBySum(fedAvg(), { weights: new Float32Array(values.length), memory: [] }, sum, {
    shape: DELTA_ONLY,
    format,
  });
  return {
    ...Object.fromEntries(names.map((name) => [name, hex(encoded(inputs[name]!))])),
    'the mean of two': hex(new Uint8Array(weights.buffer)),
  };
}

/** Steps as they travel, and a version that was rounded to one, with what rounding left. */
function steps(): Vectors {
  const numbers = {
    'no weights': [],
    'all the same': Array<number>(40).fill(0),
    'small numbers': Array.from({ length: 50 }, (_, i) => ((i * 37) % 7) - 3),
    'numbers of every size': [0, 1, -1, 95, -96, 96, 200, -1000, 2 ** 20, -(2 ** 29), 2 ** 30 - 1],
    'two blocks': Array.from({ length: 16_384 + 5 }, (_, i) => (i % 4096 === 17 ? i >> 10 : 0)),
  };
  const encoded = Object.entries(numbers).map(([name, some]) => [
    name,
    hex(encodeStep({ exponent: -12, numbers: Int32Array.from(some) })),
  ]);
  const base = inputs['three blocks, the last one cut']!;
  const wanted = base.map((value, i) => value + Math.fround(((i * 13) % 17) / 4096 - 0.002));
  const left = base.map((_, i) => ((i * 7) % 5) / 65_536);
  const rounded = (['mxint8', 'mxint4'] as const).flatMap((downlink) => {
    const { weights, remainder, step } = roundedVersion(base, wanted, left, downlink)!;
    return [
      [`a version in ${downlink}`, hex(weightsToBytes(weights))],
      [`what rounding to ${downlink} leaves`, hex(weightsToBytes(remainder))],
      [`its delta in ${downlink}`, hex(encodeStep(step))],
    ];
  });
  return Object.fromEntries([...encoded, ...rounded]) as Vectors;
}

function headerDigests(): Vectors {
  const update = {
    updateId: sha256(Buffer.from('update')),
    encoding: Encoding.MXINT8,
    weight: 600n,
    payloadSize: 41n,
  };
  const headers = {
    'an update': { ...update, metrics: { loss: 0.25, trainMs: 1200 } },
    'metrics in another order': { ...update, metrics: { trainMs: 1200, loss: 0.25 } },
    'no metrics': update,
    'another weight': { ...update, weight: 601n },
    'an invitation': { ...update, invitation: Uint8Array.of(1, 2, 3) },
    'a compressed payload': { ...update, rawSize: 70n },
  };
  const digest = (one: MessageInitShape<typeof UpdateHeaderSchema>) =>
    hex(headerDigest(create(UpdateHeaderSchema, one), sha256));
  return Object.fromEntries(Object.entries(headers).map(([name, one]) => [name, digest(one)]));
}

function updateIds(): Vectors {
  const identity = { agentId: 'a7', task: 'train', round: 3, baseVersion: 2, payloadDigest: sha256(Buffer.from('payload')) };
  const others = {
    'an update': identity,
    'another agent': { ...identity, agentId: 'a8' },
    'another round': { ...identity, round: 4 },
    'another base': { ...identity, baseVersion: 3 },
    'letters that move from the agent to the task': { ...identity, agentId: 'a7t', task: 'rain' },
    'a round beyond 32 bits': { ...identity, round: 2 ** 40 },
    'other bytes': { ...identity, payloadDigest: sha256(Buffer.from('other')) },
  };
  return Object.fromEntries(Object.entries(others).map(([name, one]) => [name, hex(updateId(one, sha256))]));
}

/** Secret key of the first test of RFC 8032, section 7.1: known to everybody, for tests only. */
const SECRET = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60';
/** What stands before the secret in a PKCS #8 file of an Ed25519 key (RFC 8410). */
const PKCS8 = '302e020100300506032b657004220420';

/** A new folder with the key of all golden data. */
export function folderWithKey(): string {
  const folder = temporaryFolder('golden');
  const key = createPrivateKey({ key: Buffer.from(PKCS8 + SECRET, 'hex'), format: 'der', type: 'pkcs8' });
  writeFileSync(join(folder, 'signing-key.pem'), key.export({ type: 'pkcs8', format: 'pem' }));
  return folder;
}

function signed(): Vectors {
  const signer = openSigner(folderWithKey());
  const manifest = toBinary(ManifestSchema, manifestOf());
  const receipt = toBinary(
    ReceiptSchema,
    create(ReceiptSchema, {
      updateId: sha256(Buffer.from('update')),
      task: 'train',
      round: 3n,
      outcome: { case: 'committedVersion', value: 4n },
    }),
  );
  const channel = toBinary(
    ChannelSchema,
    create(ChannelSchema, {
      model: 'digits',
      channel: 'stable',
      revision: 7n,
      version: 4n,
      manifestDigest: digestOf('manifest 4'),
      rollout: {
        version: 5n,
        manifestDigest: digestOf('manifest 5'),
        percent: 12.5,
        seed: '0123456789abcdef',
        cohorts: [{ key: 'region', value: 'eu' }],
      },
      createdMs: 1_800_000_000_000n,
      expiresMs: 1_800_086_400_000n,
    }),
  );
  return {
    'public key': hex(signer.publicKey),
    manifest: hex(manifest),
    'digest of the manifest': hex(sha256(manifest)),
    'signature of the manifest': hex(signer.sign('Manifest', manifest)),
    receipt: hex(receipt),
    'signature of the receipt': hex(signer.sign('Receipt', receipt)),
    channel: hex(channel),
    'signature of the channel': hex(signer.sign('Channel', channel)),
  };
}

const digestOf = (text: string): Uint8Array => sha256(Buffer.from(text));

const manifestOf = () =>
  create(ManifestSchema, {
    model: 'digits',
    version: 4n,
    parentDigest: digestOf('parent'),
    task: 'train',
    round: 3n,
    strategy: 'fedAvg',
    totalWeight: 600n,
    contributionsDigest: digestOf('contributions'),
    artifacts: [
      { role: 'graph', variant: 'fp32', digest: digestOf('graph'), size: 2000n },
      { role: 'weights', variant: 'fp32', digest: digestOf('weights'), size: 796_040n },
    ],
    inputs: [{ name: 'image', dtype: 'float', dims: [-1n, 784n] }],
    outputs: [{ name: 'logits', dtype: 'float', dims: [-1n, 10n] }],
    metrics: { loss: 0.25, trainMs: 1200 },
    createdMs: 1_700_000_000_000n,
  });

/** Three updates in both encodings: the sum as it travels, and the mean that is published. */
function sums(): Vectors {
  const values = inputs['three blocks, the last one cut']!;
  const sum = new ExactSum(values.length, grid);
  const updates = [
    { encoding: 'float32', payload: payloadOf('float32', values), weight: 1 },
    { encoding: 'mxint8', payload: payloadOf('mxint8', values.map((value) => -value / 3)), weight: 1000 },
    { encoding: 'mxint8', payload: payloadOf('mxint8', values.map((value) => value * value)), weight: 77 },
  ] as const;
  for (const fault of sum.addAll(updates)) if (fault !== undefined) throw new Error(`a golden update is refused: ${fault}`);
  const mean = sum.mean();
  return { 'partial sum': hex(sum.toBytes()), mean: hex(new Uint8Array(mean.buffer)) };
}
