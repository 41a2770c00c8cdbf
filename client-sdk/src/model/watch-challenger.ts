import { LATEST, type SignedChannel, type SignedManifest } from '@commonweight/proto';
import { asError } from '../errors.ts';
import type { TransportError } from '../errors.ts';
import type { ChannelRatchet } from '../trust/channel-ratchet.ts';
import { openChannelRecord } from '../trust/channel.ts';
import { openRelease } from '../trust/release.ts';
import type { Life } from './life.ts';
import { Offers } from './offers.ts';
import type { Shadow } from './shadow.ts';

/** Has what another channel says predict beside the version that serves. Gives what ends it. */
export function watchChallenger(
  life: Life,
  shadow: Shadow,
  { channel, ratchet }: { channel: string; ratchet: ChannelRatchet | undefined },
): () => void {
  const { crypto, emitter, link, name, pin } = life;
  const onError = (error: Error): void => emitter.emit('error', error);
  // That nobody answers is told by the model's own watch.
  const onDown = (error: TransportError): void => {
    if (!error.passing) onError(error);
  };
  if (channel === LATEST || ratchet === undefined) {
    let highest = 0;
    const releases = new Offers<SignedManifest>(
      ({ manifest }) => manifest,
      async (signed) => {
        const { version, digest } = await openRelease(name, signed, pin, crypto);
        if (version <= highest) return;
        highest = version;
        shadow.want({ version, manifestDigest: digest });
      },
      onError,
    );
    return link.watchModel(name, (signed) => releases.hear(signed), onDown);
  }
  const records = new Offers<SignedChannel>(
    ({ record }) => record,
    async (signed) => {
      const record = await openChannelRecord({ model: name, channel }, signed, pin, crypto);
      await ratchet.raise(record);
      if (record.expiresMs > Date.now()) shadow.want(record);
    },
    (error) => onError(asError(error)),
  );
  return link.watchChannel?.(name, channel, (signed) => records.hear(signed), onDown) ?? (() => {});
}
