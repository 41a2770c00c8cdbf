import { createPublicKey, sign, type KeyObject } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { ChannelSchema, signedBytes, SignedChannelSchema, type SignedChannel } from '@commonweight/proto';

/** What a channel is to say, if not what is usual. */
export interface Saying {
  model?: string;
  channel?: string;
  /** A version for a share of the clients. */
  rollout?: { version: number; percent: number; cohorts?: { key: string; value: string }[] };
  lifetimeMs?: number;
  digestOf?: (version: number) => Uint8Array;
}

/** A record of a channel (`stable` of `m`), signed. */
export function signedChannel(
  privateKey: KeyObject,
  revision: number,
  version: number,
  {
    model = 'm',
    channel = 'stable',
    rollout,
    lifetimeMs = 3_600_000,
    digestOf,
  }: Saying & Required<Pick<Saying, 'digestOf'>>,
): SignedChannel {
  const named = (number: number) => ({ version: BigInt(number), manifestDigest: digestOf(number) });
  const share =
    rollout === undefined
      ? {}
      : { rollout: { ...rollout, cohorts: rollout.cohorts ?? [], seed: 'seed', ...named(rollout.version) } };
  const record = toBinary(
    ChannelSchema,
    create(ChannelSchema, {
      model,
      channel,
      revision: BigInt(revision),
      ...named(version),
      ...share,
      createdMs: BigInt(Date.now()),
      expiresMs: BigInt(Date.now() + lifetimeMs),
    }),
  );
  return create(SignedChannelSchema, {
    record,
    signature: sign(null, signedBytes('Channel', record), privateKey),
    publicKey: createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(-32),
  });
}
