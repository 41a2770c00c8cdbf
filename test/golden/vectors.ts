import { createHash, createPrivateKey } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { encodings, ExactSum, seeded, type EncodingName } from '@commonweight/core';
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
import { grid, inputs, SEED } from './inputs.ts';
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
  'update-id.json': updateIds,
  'header-digest.json': headerDigests,
  'signed.json': signed,
  'exact-sum.json': sums,
  'wire.json': () => Object.fromEntries(samples().map(({ name, schema, message }) => [name, hex(toBinary(schema, message))])),
};

export const payloadOf = (encoding: EncodingName, values: Float32Array): Uint8Array =>
  encodings[encoding].encode(values, grid, seeded(SEED));

const payloads = (encoding: EncodingName): Vectors =>
  Object.fromEntries(Object.entries(inputs).map(([name, values]) => [name, hex(payloadOf(encoding, values))]));

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
