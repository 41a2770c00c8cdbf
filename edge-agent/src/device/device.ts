import type { Capabilities } from '@commonweight/proto';

/** What an agent tells of the device that it runs on, so that tasks can choose. */
export interface Device {
  readonly labels: Readonly<Record<string, string>>;
  readonly capabilities?: Capabilities;
  /** Conditions that hold now. */
  readonly holding: readonly string[];
}

/** One whose conditions change while an agent runs. */
export interface WatchedDevice extends Device {
  /** Tells the agent whenever another condition holds, or one does not any more. */
  watch(agent: { readonly isTraining: boolean; conditionsChanged(): void }): void;
  close(): void;
}

/** Nothing is known of it. */
export const unknownDevice: Device = { labels: {}, holding: [] };
