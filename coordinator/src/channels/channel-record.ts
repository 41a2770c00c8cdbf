import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  equalBytes,
  ChannelSchema,
  ChannelStatusSchema,
  SignedChannelSchema,
  openChannel,
  type Channel,
  type ChannelStatus,
  type SignedChannel,
} from '@commonweight/proto';
import { verifierOf, type Signer } from '../identity/signer.ts';
import { StoreError, type ChannelRecord } from '../store/store.ts';
import type { ChannelState } from './channel.ts';
import type { Verdict } from './guard.ts';

/** What is signed and stored of a channel. `digestOf` gives the digest of a version's manifest. */
export async function recordOf(
  state: ChannelState,
  digestOf: (version: number) => Promise<Uint8Array>,
  signer: Signer,
): Promise<ChannelRecord> {
  const { model, channel, revision, version, before, rollout } = state;
  const said = create(ChannelSchema, {
    model,
    channel,
    revision: BigInt(revision),
    version: BigInt(version),
    manifestDigest: await digestOf(version),
    createdMs: BigInt(state.createdMs),
    expiresMs: BigInt(state.expiresMs),
    ...(rollout === undefined
      ? {}
      : {
          rollout: {
            version: BigInt(rollout.version),
            manifestDigest: await digestOf(rollout.version),
            percent: rollout.percent,
            seed: rollout.seed,
            cohorts: [...rollout.cohorts],
          },
        }),
  });
  const record = toBinary(ChannelSchema, said);
  const signature = signer.sign('Channel', record);
  const candidate = rollout?.version ?? 0;
  return { model, channel, revision, version, candidate, before, record, signature, stateJson: JSON.stringify(state) };
}

/** Throws StoreError where what is stored is not what was signed. */
export function signedOf({ model, channel, record, signature }: ChannelRecord, publicKey: Uint8Array): SignedChannel {
  const signed = create(SignedChannelSchema, { record, signature, publicKey });
  try {
    openChannel(signed, publicKey, verifierOf(publicKey));
  } catch (cause) {
    throw new StoreError(`the record of channel ${channel} of ${model} is damaged: restore a backup`, { cause });
  }
  return signed;
}

/** What of a stored channel is not as it was signed, or undefined where all is. */
export async function channelDamage(
  record: ChannelRecord,
  digestOf: (version: number) => Promise<Uint8Array | undefined>,
  publicKey: Uint8Array,
): Promise<string | undefined> {
  let said: Channel;
  try {
    said = fromBinary(ChannelSchema, signedOf(record, publicKey).record);
  } catch (error) {
    return (error as Error).message;
  }
  const { model, channel, revision, version, candidate } = record;
  const isThat = said.model === model && said.channel === channel && Number(said.revision) === revision;
  if (!isThat || Number(said.version) !== version || Number(said.rollout?.version ?? 0n) !== candidate)
    return 'its record is of another channel or revision';
  for (const named of [said, ...(said.rollout === undefined ? [] : [said.rollout])]) {
    const digest = await digestOf(Number(named.version));
    if (digest === undefined || !equalBytes(digest, named.manifestDigest))
      return `version ${named.version} is not the one that it names`;
  }
  return undefined;
}

/** The store answers for the text. */
export const stateOf = ({ stateJson }: ChannelRecord): ChannelState => JSON.parse(stateJson) as ChannelState;

export function statusOf(state: ChannelState, verdict: Verdict): ChannelStatus {
  const { rollout, held, changes } = state;
  return create(ChannelStatusSchema, {
    model: state.model,
    channel: state.channel,
    revision: BigInt(state.revision),
    version: BigInt(state.version),
    versionBefore: BigInt(state.before),
    held: held !== undefined,
    holdReason: held ?? '',
    createdMs: BigInt(state.createdMs),
    expiresMs: BigInt(state.expiresMs),
    changes: changes.map(({ revision, atMs, what }) => ({ revision: BigInt(revision), atMs: BigInt(atMs), what })),
    ...(rollout === undefined
      ? {}
      : {
          rollout: {
            version: BigInt(rollout.version),
            percent: rollout.percent,
            cohorts: [...rollout.cohorts],
            stages: [...rollout.stages],
            everyMs: BigInt(rollout.everyMs),
            nextStageMs: BigInt(rollout.stages.length === 0 ? 0 : rollout.sinceMs + rollout.everyMs),
            guard: rollout.guard,
            verdict: verdict.is,
            why: verdict.why,
            needsReports: rollout.needsReports,
          },
        }),
  });
}
