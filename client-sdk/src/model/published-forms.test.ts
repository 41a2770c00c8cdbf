import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  ManifestSchema,
  signedBytes,
  SignedManifestSchema,
  SignedVariantListSchema,
  VariantListSchema,
  VariantState,
  type SignedManifest,
  type SignedVariantList,
} from '@commonweight/proto';
import { expect, test } from 'vitest';
import type { ModelLink } from '../connection/model-link.ts';
import { TransportError, TrustError } from '../errors.ts';
import { verifyEd25519 } from '../trust/ed25519.ts';
import { KeyPin } from '../trust/key-pin.ts';
import { openRelease } from '../trust/release.ts';
import { sha256 } from '../trust/sha256.ts';
import { publishedForms } from './published-forms.ts';

const crypto = { sha256, verifyEd25519 };
const keys = generateKeyPairSync('ed25519');
const raw = (key: KeyObject): Uint8Array => new Uint8Array(key.export({ format: 'der', type: 'spki' }).subarray(-32));
const publicKey = raw(keys.publicKey);
const form = new Uint8Array(100).fill(7);

function manifest(version: number): SignedManifest {
  const part = (role: string) => ({ role, variant: 'fp32', digest: sha256(new Uint8Array([version])), size: 1n });
  const message = { model: 'm', version: BigInt(version), artifacts: [part('graph'), part('weights')] };
  const bytes = toBinary(ManifestSchema, create(ManifestSchema, message));
  const signature = sign(null, signedBytes('Manifest', bytes), keys.privateKey);
  return create(SignedManifestSchema, { manifest: bytes, signature, publicKey });
}

const plain = { irVersion: 8, operatorSets: [{ domain: '', version: 17 }], operators: ['Conv'], elementTypes: [] };
const needs = { ...plain, operatorSets: [...plain.operatorSets, { domain: 'com.microsoft', version: 1 }] };

/** A list of one form in each state, of a version. */
function listOf(version: number, changes: { model?: string; of?: SignedManifest } = {}): Uint8Array {
  const { model = 'm', of = manifest(version) } = changes;
  const variant = { digest: sha256(form), size: 100n };
  const variants = [
    { ...variant, name: 'int8-dynamic', state: VariantState.PUBLISHED, why: 'loses nothing' },
    { ...variant, name: 'int8-blocks', state: VariantState.WITHHELD, why: 'loses much' },
    { ...variant, name: 'int4-blocks', state: VariantState.PUBLISHED, why: 'loses little', needs },
    { ...variant, name: 'int8-static', state: VariantState.PUBLISHED, why: 'loses less', needs: plain },
    { ...variant, name: 'fp16', state: VariantState.PUBLISHED, why: 'is not wanted here' },
    { ...variant, name: 'of-tomorrow', state: VariantState.PUBLISHED, why: 'is not known here' },
  ];
  const message = { model, version: BigInt(version), manifestDigest: sha256(of.manifest), variants };
  return toBinary(VariantListSchema, create(VariantListSchema, message));
}

const signed = (list: Uint8Array, by: KeyObject = keys.privateKey, key = publicKey): SignedVariantList => {
  const signature = sign(null, signedBytes('VariantList', list), by);
  return create(SignedVariantListSchema, { list, signature, publicKey: key });
};

/** What an app with a pinned key makes of an answer about version 2. */
async function taken(
  answer: () => Promise<SignedVariantList | undefined>,
  onDownload: (digest: Uint8Array) => void = () => {},
) {
  const pin = await KeyPin.open();
  const release = await openRelease('m', manifest(2), pin, crypto);
  const link: ModelLink = {
    getVariants: answer,
    download: (digest) => {
      onDownload(digest);
      return Promise.resolve(form);
    },
    getModel: () => Promise.reject(new Error('nobody asks for it')),
    watchModel: () => () => {},
    close: () => Promise.resolve(),
  };
  return publishedForms(release, {
    link,
    pin,
    crypto,
    variants: {
      isWanted: (name) => name !== 'fp16',
      isRun: ({ operatorSets }) => operatorSets.every(({ domain }) => domain === ''),
    },
  });
}

test('published forms are fetched, withheld ones are named, and what is not known, not wanted or run by nothing here is left', async () => {
  let downloads = 0;
  const forms = await taken(
    () => Promise.resolve(signed(listOf(2))),
    () => void downloads++,
  );
  expect(forms).toEqual({
    forms: [
      { name: 'int8-dynamic', why: 'loses nothing', onnx: form },
      { name: 'int8-static', why: 'loses less', onnx: form, needs: plain },
    ],
    withheld: new Map([['int8-blocks', 'loses much']]),
    unfit: [{ name: 'int4-blocks', why: 'loses little', bytes: 100, needs }],
  });
  expect(downloads).toBe(2);
});

test('where there is no list, or nobody who could be asked, there are no forms', async () => {
  const nothing = { forms: [], withheld: new Map() };
  expect(await taken(() => Promise.resolve(undefined))).toEqual(nothing);
  expect(await taken(() => Promise.reject(new TransportError('unavailable', 'away')))).toEqual(nothing);
});

const other = generateKeyPairSync('ed25519');
const flipped = (): SignedVariantList => {
  const list = signed(listOf(2));
  const bytes = Uint8Array.from(list.list);
  bytes[bytes.length - 1]! ^= 1;
  return create(SignedVariantListSchema, { ...list, list: bytes });
};
test.each([
  ['signed by another key', () => signed(listOf(2), other.privateKey, raw(other.publicKey))],
  ['signed by another key in the name of the trusted one', () => signed(listOf(2), other.privateKey)],
  ['changed after it was signed', flipped],
  ['of another version', () => signed(listOf(1))],
  ['of another model', () => signed(listOf(2, { model: 'n' }))],
  ['of another manifest of the same number', () => signed(listOf(2, { of: manifest(3) }))],
  [
    'signed as something else',
    () => {
      const signature = sign(null, signedBytes('Manifest', listOf(2)), keys.privateKey);
      return create(SignedVariantListSchema, { list: listOf(2), signature, publicKey });
    },
  ],
])('a list that is %s is not believed, and nothing of it is fetched', async (_, forged) => {
  let downloads = 0;
  await expect(
    taken(
      () => Promise.resolve(forged()),
      () => void downloads++,
    ),
  ).rejects.toThrow(TrustError);
  expect(downloads).toBe(0);
});
