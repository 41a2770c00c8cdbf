import { fromBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { ChannelSchema, type Channel, type SignedChannel } from '../gen/commonweight/v1/channel_pb.ts';
import {
  CandidateSchema,
  ManifestSchema,
  ReceiptSchema,
  ResultSchema,
  VariantListSchema,
  type Candidate,
  type Manifest,
  type Receipt,
  type Result,
  type SignedCandidate,
  type SignedManifest,
  type SignedReceipt,
  type SignedResult,
  type SignedVariantList,
  type VariantList,
} from '../gen/commonweight/v1/release_pb.ts';
import { utf8 } from './utf8.ts';

/** Verifies an Ed25519 signature: raw 32-byte public key, message, 64-byte signature. */
export type VerifyEd25519 = (publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array) => boolean;

/** A signed record that must not be believed: wrong key, wrong signature or not decodable. */
export class SignatureError extends Error {
  override name = 'SignatureError';
}

/** The kinds of records that a coordinator signs. */
export type SignedKind = 'Manifest' | 'Receipt' | 'VariantList' | 'Invitation' | 'Channel' | 'Candidate' | 'Result';

/** The bytes that are signed: a domain line keeps a receipt from being passed off as a manifest. */
export function signedBytes(kind: SignedKind, payload: Uint8Array): Uint8Array {
  const domain = utf8(`commonweight.v1.${kind}\n`);
  const message = new Uint8Array(domain.length + payload.length);
  message.set(domain);
  message.set(payload, domain.length);
  return message;
}

/** The manifest inside, once its signature by `trustedKey` was verified. Throws SignatureError. */
export function openManifest(signed: SignedManifest, trustedKey: Uint8Array, verify: VerifyEd25519): Manifest {
  return open('Manifest', ManifestSchema, signed.manifest, signed, trustedKey, verify);
}

/** The receipt inside, once its signature by `trustedKey` was verified. Throws SignatureError. */
export function openReceipt(signed: SignedReceipt, trustedKey: Uint8Array, verify: VerifyEd25519): Receipt {
  return open('Receipt', ReceiptSchema, signed.receipt, signed, trustedKey, verify);
}

/** The list inside, once its signature by `trustedKey` was verified. Throws SignatureError. */
export function openVariantList(signed: SignedVariantList, trustedKey: Uint8Array, verify: VerifyEd25519): VariantList {
  return open('VariantList', VariantListSchema, signed.list, signed, trustedKey, verify);
}

/** The candidate inside, once its signature by `trustedKey` was verified. Throws SignatureError. */
export function openCandidate(signed: SignedCandidate, trustedKey: Uint8Array, verify: VerifyEd25519): Candidate {
  return open('Candidate', CandidateSchema, signed.candidate, signed, trustedKey, verify);
}

/** The result inside, once its signature by `trustedKey` was verified. Throws SignatureError. */
export function openResult(signed: SignedResult, trustedKey: Uint8Array, verify: VerifyEd25519): Result {
  return open('Result', ResultSchema, signed.result, signed, trustedKey, verify);
}

/** The record inside, once its signature by `trustedKey` was verified. Throws SignatureError. */
export function openChannel(signed: SignedChannel, trustedKey: Uint8Array, verify: VerifyEd25519): Channel {
  return open('Channel', ChannelSchema, signed.record, signed, trustedKey, verify);
}

function open<D extends DescMessage>(
  kind: SignedKind,
  schema: D,
  payload: Uint8Array,
  signed: { publicKey: Uint8Array; signature: Uint8Array },
  trustedKey: Uint8Array,
  verify: VerifyEd25519,
): MessageShape<D> {
  if (!equalBytes(signed.publicKey, trustedKey)) {
    throw new SignatureError(`${kind} is signed by another key than the one that is trusted`);
  }
  if (!verify(trustedKey, signedBytes(kind, payload), signed.signature)) {
    throw new SignatureError(`${kind} has a wrong signature`);
  }
  try {
    return fromBinary(schema, payload);
  } catch (cause) {
    throw new SignatureError(`${kind} cannot be decoded`, { cause });
  }
}

/** Whether two byte strings are equal. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
