import { create } from '@bufbuild/protobuf';
import { CapabilitiesSchema, type Capabilities } from '@commonweight/proto';
import type { WatchedDevice } from '../device/device.ts';

/** What a page says of the device that it is open on. */
export interface PageDeviceOptions {
  labels?: Readonly<Record<string, string>>;
  /** Conditions that hold. */
  conditions?: readonly string[];
}

const { navigator } = globalThis as unknown as {
  navigator: { hardwareConcurrency: number; deviceMemory?: number };
};

/** The device that a page is open on, as far as browsers tell. */
export function pageDevice({ labels = {}, conditions = [] }: PageDeviceOptions, engine: () => string): WatchedDevice {
  return {
    labels,
    holding: conditions,
    get capabilities(): Capabilities {
      return create(CapabilitiesSchema, {
        engine: engine(),
        // Browsers say so in steps, and never more than 8 GiB; some say nothing.
        memoryMib: (navigator.deviceMemory ?? 0) * 1024,
        cores: navigator.hardwareConcurrency,
        platform: 'browser',
      });
    },
    watch() {},
    close() {},
  };
}
