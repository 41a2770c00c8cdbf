import type { Capabilities } from '@commonweight/proto';
import { capabilitiesOf } from './capabilities.ts';
import { Conditions, type ConditionOptions } from './conditions.ts';
import type { WatchedDevice } from './device.ts';

export interface DeviceOptions {
  /** What the operator says of it: `{ site: 'north' }`. */
  labels?: Readonly<Record<string, string>>;
  /** Without it, whether it is charging and idle is found out where that can be. */
  conditions?: ConditionOptions;
}

const UNTOLD: ConditionOptions = { set: { charging: 'auto', idle: 'auto' } };
/** How often conditions are looked at. */
const LOOK_MS = 5_000;

/** This device: what it has, and what holds of it, looked at again and again until it is closed. */
export class OwnDevice implements WatchedDevice {
  readonly labels: Readonly<Record<string, string>>;
  readonly #engine: () => string;
  readonly #conditions: Conditions;
  #timer: NodeJS.Timeout | undefined;

  private constructor(
    { labels = {}, conditions = UNTOLD }: DeviceOptions,
    engine: () => string,
    warn: (text: string) => void,
  ) {
    this.labels = labels;
    this.#engine = engine;
    this.#conditions = new Conditions(conditions, warn);
  }

  /** `engine` is asked each time: where one fails another takes its place. */
  static async open(options: DeviceOptions, engine: () => string, warn: (text: string) => void): Promise<OwnDevice> {
    const device = new OwnDevice(options, engine, warn);
    await device.#conditions.look(false);
    return device;
  }

  get capabilities(): Capabilities {
    return capabilitiesOf(this.#engine());
  }

  get holding(): readonly string[] {
    return this.#conditions.holding;
  }

  watch(agent: { isTraining: boolean; conditionsChanged(): void }): void {
    let isLooking = false;
    this.#timer = setInterval(() => {
      if (isLooking) return;
      isLooking = true;
      void this.#conditions
        .look(agent.isTraining)
        .then((isChanged) => isChanged && agent.conditionsChanged())
        .finally(() => (isLooking = false));
    }, LOOK_MS);
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
