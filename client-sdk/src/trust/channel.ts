import {
  isName,
  openChannel,
  SignatureError,
  signedBytes,
  type Channel,
  type SignedChannel,
} from '@commonweight/proto';
import { TrustError } from '../errors.ts';
import type { TrustCrypto } from '../platform/platform.ts';
import type { KeyPin } from './key-pin.ts';
import type { Share } from './rollout.ts';

/** A version, by the digest of its manifest: no other manifest of that number will do. */
export interface NamedVersion {
  version: number;
  manifestDigest: Uint8Array;
}

/** What a channel says, once its signature was verified. */
export interface ChannelRecord extends NamedVersion {
  model: string;
  channel: string;
  revision: number;
  rollout?: NamedVersion & Share;
  expiresMs: number;
  /** The bytes that were signed. */
  bytes: Uint8Array;
}

/** The record inside, once it is known to be the trusted key's and of this channel. Throws TrustError. */
export async function openChannelRecord(
  of: { model: string; channel: string },
  signed: SignedChannel,
  pin: KeyPin,
  { verifyEd25519 }: TrustCrypto,
): Promise<ChannelRecord> {
  pin.check(signed.publicKey);
  const message = signedBytes('Channel', signed.record);
  const isGenuine = await verifyEd25519(signed.publicKey, message, signed.signature);
  const name = `channel ${of.channel} of '${of.model}'`;
  let said: Channel;
  try {
    // Another key may have been pinned while this one was being verified.
    said = openChannel(signed, pin.key ?? signed.publicKey, () => isGenuine);
  } catch (cause) {
    if (!(cause instanceof SignatureError)) throw cause;
    throw new TrustError(`a record of ${name} was refused: ${cause.message}`, { cause });
  }
  const { model, channel } = said;
  if (model !== of.model || channel !== of.channel || !isName(channel))
    throw new TrustError(`a record of channel ${channel} of '${model}' was offered as one of ${name}`);
  const [revision, expiresMs] = [Number(said.revision), Number(said.expiresMs)];
  if (!Number.isSafeInteger(revision) || revision < 1) throw new TrustError(`${name} has no revision ${said.revision}`);
  const rollout = said.rollout === undefined ? {} : { rollout: { ...said.rollout, ...named(name, said.rollout) } };
  pin.pin(signed.publicKey);
  return { model, channel, revision, ...named(name, said), ...rollout, expiresMs, bytes: signed.record };
}

function named(
  name: string,
  { version, manifestDigest }: { version: bigint; manifestDigest: Uint8Array },
): NamedVersion {
  const number = Number(version);
  if (!Number.isSafeInteger(number) || number < 1 || manifestDigest.length !== 32)
    throw new TrustError(`${name} names no version`);
  return { version: number, manifestDigest };
}
