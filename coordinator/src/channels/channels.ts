import { randomBytes } from 'node:crypto';
import type { ChannelStatus } from '@commonweight/proto';
import type { Signer } from '../identity/signer.ts';
import { ServiceError } from '../service.ts';
import { StoreError, type ChannelRecord, type Store } from '../store/store.ts';
import type { ChannelReads } from './channel-reads.ts';
import { recordOf, signedOf, stateOf, statusOf } from './channel-record.ts';
import { advanced, held, promoted, rolledBack, type ChannelState, type Moment, type Promotion } from './channel.ts';
import type { Verdict } from './guard.ts';

/** How long a record holds; it is signed anew when half of that is over. */
export const CHANNEL_LIFETIME_MS: number = 24 * 3_600_000;

export interface ChannelsWorld {
  store: Store;
  signer: Signer;
  reads: ChannelReads;
  lifetimeMs: number;
  nowMs(): number;
  /** What reports say of a channel's rollout. */
  verdictOn(state: ChannelState): Verdict;
  /** A rollout has begun: what was said of its version before does not count. */
  begun(model: string, version: number): void;
  log(line: string): void;
  /** A commit failed. */
  failed(error: unknown): void;
}

/** Which channel and model. */
export interface ChannelName {
  model: string;
  channel: string;
}

/** The channels of the coordinator that commits: one change at a time, each signed, durable, and told. */
export class Channels {
  readonly #world: ChannelsWorld;
  /** What the store has, by model and name. */
  readonly #states = new Map<string, ChannelState>();
  #queue: Promise<unknown> = Promise.resolve();

  constructor(world: ChannelsWorld) {
    this.#world = world;
  }

  /** Goes on with what the store has. */
  async recover(): Promise<void> {
    for (const record of await this.#world.store.channels()) this.#states.set(keyOf(record), stateOf(record));
  }

  /** A version of 0 is the newest. */
  promote(of: ChannelName, { version, ...promotion }: Promotion): Promise<ChannelStatus> {
    return this.#change(of, async (state) => {
      const number = version === 0 ? await this.#newest(of.model) : version;
      const seed = randomBytes(8).toString('hex');
      return promoted(state, of, { ...promotion, version: number }, { ...this.#moment(), seed });
    });
  }

  /** Without a reason the channel goes on. */
  hold(of: ChannelName, reason: string | undefined): Promise<ChannelStatus> {
    return this.#change(of, async (state) => held(required(state, of), reason, this.#moment()));
  }

  rollBack(of: ChannelName, version: number | undefined): Promise<ChannelStatus> {
    return this.#change(of, async (state) => rolledBack(required(state, of), version, this.#moment()));
  }

  /** Does what is due: stages, ends by reports, and new signatures. */
  async look(): Promise<void> {
    for (const due of this.#states.values()) {
      if (this.#advanced(due) === undefined) continue;
      await this.#change(due, async (state) => (state === undefined ? undefined : this.#advanced(state)));
    }
  }

  /** Ends after what is under way. */
  async close(): Promise<void> {
    await this.#queue;
  }

  #advanced(state: ChannelState): ChannelState | undefined {
    return advanced(state, this.#world.verdictOn(state), this.#moment());
  }

  #moment(): Moment {
    return { nowMs: this.#world.nowMs(), lifetimeMs: this.#world.lifetimeMs };
  }

  async #newest(model: string): Promise<number> {
    return (await this.#world.store.newestVersion(model))?.version ?? 0;
  }

  /** The next state of a channel, signed and durable; undefined changes nothing. */
  #change(
    { model, channel }: ChannelName,
    change: (state: ChannelState | undefined) => Promise<ChannelState | undefined>,
  ): Promise<ChannelStatus> {
    const result = this.#queue.then(async () => {
      const { store, verdictOn } = this.#world;
      if ((await store.newestVersion(model)) === undefined)
        throw new ServiceError(
          'not-found',
          `there is no model "${model.slice(0, 80)}": see \`commonweight model list\``,
        );
      const before = this.#states.get(keyOf({ model, channel }));
      const after = await change(before);
      if (after !== undefined) await this.#commit(before, after);
      const state = after ?? required(before, { model, channel });
      return statusOf(state, verdictOn(state));
    });
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #commit(before: ChannelState | undefined, state: ChannelState): Promise<void> {
    const { store, signer, reads, begun, log, failed } = this.#world;
    const record = await recordOf(state, (version) => this.#digestOf(state.model, version), signer);
    await this.#written(record, () => store.commit({ channel: record }), failed);
    this.#states.set(keyOf(state), state);
    if (state.rollout !== undefined && state.rollout.version !== before?.rollout?.version)
      begun(state.model, state.rollout.version);
    const change = state.changes.at(-1);
    if (change !== undefined && change.revision !== before?.changes.at(-1)?.revision)
      log(`channel ${state.channel} of ${state.model}: ${change.what}`);
    reads.announce(record, signedOf(record, signer.publicKey));
  }

  async #written(record: ChannelRecord, commit: () => Promise<void>, failed: (error: unknown) => void): Promise<void> {
    try {
      await commit();
    } catch (cause) {
      if (cause instanceof StoreError && cause.kind === 'refused')
        throw new ServiceError('invalid', cause.message, { cause });
      failed(cause);
      throw cause;
    }
  }

  async #digestOf(model: string, version: number): Promise<Uint8Array> {
    const record = await this.#world.store.version(model, version);
    if (record !== undefined) return record.digest;
    throw new ServiceError(
      'not-found',
      `model ${model} has no version ${version}: see \`commonweight model show ${model}\``,
    );
  }
}

const keyOf = ({ model, channel }: ChannelName): string => `${model} ${channel}`;

function required(state: ChannelState | undefined, { model, channel }: ChannelName): ChannelState {
  if (state !== undefined) return state;
  throw new ServiceError(
    'not-found',
    `model ${model} has no channel "${channel.slice(0, 80)}": see \`commonweight model channels ${model}\``,
  );
}
