import type { ChannelStatus, SignedChannel } from '@commonweight/proto';
import { Announcements } from '../registry/announcements.ts';
import { ServiceError } from '../service.ts';
import type { ChannelRecord, StoreReads } from '../store/store.ts';
import { signedOf, stateOf, statusOf } from './channel-record.ts';
import type { ChannelState } from './channel.ts';
import type { Verdict } from './guard.ts';

/** What apps are told of channels. */
export class ChannelReads {
  readonly #store: StoreReads;
  readonly #publicKey: Uint8Array;
  readonly #verdictOn: (state: ChannelState) => Verdict;
  readonly #log: (line: string) => void;
  readonly #announcements = new Announcements<SignedChannel>();
  /** Revisions that watchers were told of, by channel. */
  readonly #told = new Map<string, number>();

  constructor(
    store: StoreReads,
    publicKey: Uint8Array,
    { verdictOn, log }: { verdictOn: (state: ChannelState) => Verdict; log: (line: string) => void },
  ) {
    this.#store = store;
    this.#publicKey = publicKey;
    this.#verdictOn = verdictOn;
    this.#log = log;
  }

  async get(model: string, channel: string): Promise<SignedChannel> {
    const record = await this.#store.channel(model, channel);
    if (record !== undefined) return signedOf(record, this.#publicKey);
    if ((await this.#store.newestVersion(model)) === undefined)
      throw new ServiceError('not-found', `there is no model "${model.slice(0, 80)}": see \`commonweight model list\``);
    throw new ServiceError(
      'not-found',
      `model ${model} has no channel "${channel.slice(0, 80)}": \`commonweight model promote ${model} --channel ${channel.slice(0, 80)}\` makes it`,
    );
  }

  /** The channels of a model, or of all. */
  async list(model: string): Promise<ChannelStatus[]> {
    if (model !== '' && (await this.#store.newestVersion(model)) === undefined)
      throw new ServiceError('not-found', `there is no model "${model.slice(0, 80)}": see \`commonweight model list\``);
    const records = (await this.#store.channels()).filter((record) => model === '' || record.model === model);
    return records.map(stateOf).map((state) => statusOf(state, this.#verdictOn(state)));
  }

  watch(model: string, channel: string, onRecord: (record: SignedChannel) => void): () => void {
    const name = `${model} ${channel}`;
    return this.#announcements.watch(name, onRecord, {
      first: this.get(model, channel),
      onError: (error) => this.#log(`watch of ${name}: ${error.message}`),
    });
  }

  watchAll(onRecord: (model: string, channel: string, record: SignedChannel) => void): () => void {
    return this.#announcements.watchAll((name, record) => {
      const [model = '', channel = ''] = name.split(' ');
      onRecord(model, channel, record);
    });
  }

  announce({ model, channel }: ChannelRecord, signed: SignedChannel): void {
    this.#announcements.announce(`${model} ${channel}`, signed);
  }

  /** Looks whether somebody else has changed a channel that is watched here. */
  async look(): Promise<void> {
    for (const name of this.#announcements.watched()) {
      const [model = '', channel = ''] = name.split(' ');
      const record = await this.#store.channel(model, channel);
      if (record === undefined) continue;
      const before = this.#told.get(name);
      this.#told.set(name, record.revision);
      if (before !== record.revision) this.announce(record, signedOf(record, this.#publicKey));
    }
  }
}
