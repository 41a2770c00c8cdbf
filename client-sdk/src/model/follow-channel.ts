import type { SignedChannel } from '@commonweight/proto';
import { TransportError, TrustError } from '../errors.ts';
import { openChannelRecord, type ChannelRecord, type NamedVersion } from '../trust/channel.ts';
import { isChosen } from '../trust/rollout.ts';
import type { Freshness } from './freshness.ts';
import type { Life, ModelParts } from './life.ts';
import type { Standing } from './standing.ts';
import type { Swaps } from './swaps.ts';

/** Makes of what a channel says the one version that is to serve here. */
export class ChannelFollower {
  readonly #life: Life;
  readonly #channel: NonNullable<ModelParts['channel']>;
  readonly #freshness: Freshness;
  readonly #swaps: Swaps;
  #record: ChannelRecord | undefined;
  /** Hears the version of a rollout that this client is not in; undefined where there is none. */
  onChallenger: (named: NamedVersion | undefined) => void = () => {};

  constructor(
    life: Life,
    channel: NonNullable<ModelParts['channel']>,
    { freshness, standing, swaps }: { freshness: Freshness; standing: Standing; swaps: Swaps },
  ) {
    this.#life = life;
    this.#channel = channel;
    this.#freshness = freshness;
    this.#swaps = swaps;
    const again = ({ version }: { version: number }): void => {
      swaps.setAside(version);
      // What is being taken back decides first what serves.
      if (standing.isReverting) void standing.settled().then(() => this.#again());
      else this.#again();
    };
    life.emitter.on('quarantined', again);
    life.emitter.on('incompatible', again);
  }

  /** Asks what the channel says. */
  async require(): Promise<void> {
    const { link, name } = this.#life;
    if (link.getChannel === undefined) throw new TransportError('invalid', 'this link knows no channels');
    await this.take(await link.getChannel(name, this.#channel.name));
  }

  watch(onAlive: (record: SignedChannel) => void, onDown: (error: TransportError) => void): () => void {
    const { link, name } = this.#life;
    return link.watchChannel?.(name, this.#channel.name, onAlive, onDown) ?? (() => {});
  }

  /** Takes a record that somebody says is the newest. Throws TrustError where it must not be believed, or holds no more. */
  async take(signed: SignedChannel): Promise<void> {
    const { crypto, name, pin } = this.#life;
    const { name: channel, ratchet } = this.#channel;
    const record = await openChannelRecord({ model: name, channel }, signed, pin, crypto);
    await ratchet.raise(record);
    if (record.expiresMs <= Date.now()) {
      this.#freshness.expire(record.expiresMs);
      const at = new Date(record.expiresMs).toISOString();
      throw new TrustError(
        `what channel ${channel} of '${name}' says holds since ${at} no more: somebody may be keeping newer records back, or the clock of this machine is wrong`,
      );
    }
    this.#freshness.validUntil(record.expiresMs);
    this.#record = record;
    const target = await this.#target(record);
    this.#swaps.direct(target);
    this.onChallenger(target === record ? record.rollout : undefined);
  }

  /** Where the version that was to serve is of no use here, what the others have is. */
  #again(): void {
    if (this.#record === undefined || this.#record.expiresMs <= Date.now() || this.#life.closed.aborted) return;
    const { rollout } = this.#record;
    if (rollout !== undefined && this.#swaps.isAside(rollout.version)) this.#swaps.direct(this.#record);
  }

  async #target(record: ChannelRecord): Promise<NamedVersion> {
    const { crypto, name, who } = this.#life;
    const { rollout } = record;
    if (rollout === undefined || this.#swaps.isAside(rollout.version)) return record;
    return (await isChosen(name, rollout, who, crypto.sha256)) ? rollout : record;
  }
}
