import { BlobCache, KeyPin, MemoryStorage, Ratchet, sha256 } from '@commonweight/client-sdk';
import type { AgentDisk } from '../../edge-agent/src/disk.ts';
import type { OutboxEntry } from '../../edge-agent/src/outbox/outbox.ts';
import type { VirtualTime } from './virtual-time.ts';

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const never = <T>(): Promise<T> => new Promise<T>(() => {});

/** Longest that a write takes. */
const WRITE_MS = 30;
/** What an agent that sends before it keeps takes to keep. */
const LATE_MS = 15_000;

/** What each life of a simulated agent finds. */
export interface Durable {
  outbox: Map<string, OutboxEntry>;
  residuals: Map<string, Float32Array>;
  own: Map<string, Float32Array>;
  newest: Map<string, Ratchet>;
  blobs: BlobCache;
  pin: KeyPin;
}

export const emptyDisk = async (coordinatorKey: Uint8Array): Promise<Durable> => ({
  outbox: new Map(),
  residuals: new Map(),
  own: new Map(),
  newest: new Map(),
  blobs: new BlobCache(new MemoryStorage(), 'blobs', sha256),
  pin: await KeyPin.open({ given: coordinatorKey }),
});

export interface DiskWorld {
  time: VirtualTime;
  /** In [0, 1): how long a write takes. */
  uniform(): number;
  isAlive(): boolean;
  /** An update is about to be written. */
  onMade(entry: OutboxEntry): void;
  /** It is on the disk. */
  onKept(id: string): void;
  /** A fault to plant: writes are said to be done long before they are. */
  isLate: boolean;
}

/** The disk as one life of an agent sees it. Writes take time; those that a kill cuts off are not there, and nobody hears of them. */
export function openDisk(durable: Durable, { time, uniform, isAlive, onMade, onKept, isLate }: DiskWorld): AgentDisk {
  const entries = new Map(durable.outbox);
  /** Writes, and some time later says so: a kill may come between the two. */
  const write = async (apply: () => void): Promise<void> => {
    await time.sleep(WRITE_MS * uniform());
    if (!isAlive()) return never();
    apply();
    await time.sleep(WRITE_MS * uniform());
    if (!isAlive()) return never();
  };
  return {
    blobs: durable.blobs,
    pin: durable.pin,
    outbox: {
      get: (updateId) => entries.get(hex(updateId)),
      entries: () => [...entries.values()],
      put: async (entry) => {
        const id = hex(entry.header.updateId);
        onMade(entry);
        const apply = (): void => {
          durable.outbox.set(id, entry);
          onKept(id);
        };
        if (isLate) time.after(LATE_MS, () => isAlive() && entries.has(id) && apply());
        else await write(apply);
        entries.set(id, entry);
      },
      delete: (updateId) => {
        entries.delete(hex(updateId));
        return write(() => durable.outbox.delete(hex(updateId)));
      },
    },
    residual: async (task, length) => {
      const residual = durable.residuals.get(task);
      return residual?.length === length ? residual : undefined;
    },
    keepResidual: (task, residual) => write(() => durable.residuals.set(task, residual)),
    own: async (task, name, length) => {
      const vector = durable.own.get(`${task} ${name}`);
      return vector?.length === length ? vector : undefined;
    },
    keepOwn: (task, name, vector) => write(() => durable.own.set(`${task} ${name}`, vector)),
    refuseOlder: async (task, { model, version }) => {
      const newest = durable.newest.get(task) ?? (await Ratchet.open());
      newest.raise(model, Number(version));
      await write(() => durable.newest.set(task, newest));
    },
  };
}
