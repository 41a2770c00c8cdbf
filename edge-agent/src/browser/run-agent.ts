import { requireLoopback, webCrypto } from '@commonweight/client-sdk';
import { ConfigError } from '@commonweight/core';
import type { AgentIdentity } from '../agent.ts';
import type { Dataset } from '../data/dataset.ts';
import { openAgentFiles } from '../disk.ts';
import type { AgentEvent } from '../events.ts';
import { NatsAgentLink } from '../link/nats-agent-link.ts';
import { liveAgent } from '../live-agent.ts';
import { EngineOrder } from '../training/engines/engine-order.ts';
import { Trainer } from '../training/trainer.ts';
import { pageDevice, type PageDeviceOptions } from './page-device.ts';
import { DatabaseStorage } from './database-storage.ts';
import { browserEngines, browserThreads } from './engines.ts';
import { startTrainingWorker } from './worker-trainer.ts';

export interface AgentOptions extends Omit<AgentIdentity, 'agentId'> {
  /** A NATS server's WebSocket, `ws://127.0.0.1:PORT`. */
  coordinator: string;
  /** What it trains on; it stays in the page. */
  data: Dataset;
  /** Name of the database of its outbox, its cache and the coordinator's key. One tab at a time has it. */
  place: string;
  /** Else a name is made up, and kept in the database. */
  agentId?: string;
  /** Where the page is isolated; all of the machine's but one by default. */
  threads?: number;
  /** Without it, or with `auto`, the GPU where there is one. */
  engine?: 'auto' | 'ort-web' | 'ort-webgpu';
  /** What the page says of the device that it is open on. */
  device?: PageDeviceOptions;
  onEvent?: (event: AgentEvent) => void;
}

/** Runs an agent in a page until its signal aborts. Throws ConfigError where it cannot begin; else it goes on for ever. */
export async function runAgent(options: AgentOptions): Promise<void> {
  if (requireLoopback(options.coordinator).kind !== 'ws')
    throw new ConfigError(`'${options.coordinator}' is nothing that a page can train for: write ws://…`, 'coordinator');
  return alone(options.place, async () => {
    const storage = await DatabaseStorage.open(options.place);
    try {
      await askToKeep(options);
      const agentId = options.agentId ?? (await ownName(storage));
      const { coordinator, data, place, engine = 'auto', threads = browserThreads() } = options;
      await liveAgent(
        { ...options, agentId },
        {
          crypto: webCrypto,
          deflate: undefined,
          place,
          openLink: () => new NatsAgentLink(coordinator, agentId),
          openDisk: (onDamaged) => openAgentFiles(storage, webCrypto, onDamaged),
          openTrainer: async (warn) => {
            const engines = new EngineOrder(await browserEngines(engine));
            const budget = { threads, busy: 1 };
            const trainer = new Trainer({ data, engines, budget, start: startTrainingWorker, warn });
            return { trainer, examples: await trainer.open() };
          },
          openDevice: (trainsOn) => Promise.resolve(pageDevice(options.device ?? {}, trainsOn)),
        },
      );
    } finally {
      storage.close();
    }
  });
}

interface Browser {
  locks?: {
    request<T>(name: string, options: { ifAvailable: true }, deed: (lock: unknown) => Promise<T>): Promise<T>;
  };
  storage?: { persist?(): Promise<boolean> };
}

const { navigator } = globalThis as unknown as { navigator: Browser };

/** Two agents with one outbox would send each other's updates. */
function alone(place: string, deed: () => Promise<void>): Promise<void> {
  const { locks } = navigator;
  if (locks === undefined) throw new ConfigError('this browser has no Web Locks: update it', 'place');
  return locks.request(`commonweight agent ${place}`, { ifAvailable: true }, (lock) => {
    if (lock === null) throw new ConfigError(`another tab trains in '${place}' already`, 'place');
    return deed();
  });
}

/** What is not promised to be kept may be deleted when the device is short of room, an update that waits for its receipt with it. */
async function askToKeep({ onEvent }: AgentOptions): Promise<void> {
  if ((await navigator.storage?.persist?.()) === true) return;
  onEvent?.({ type: 'warning', text: 'the browser may delete what waits for a receipt, should it run out of room' });
}

/** A name that this browser has had before, or a new one. */
async function ownName(storage: DatabaseStorage): Promise<string> {
  const known = await storage.read('agent-id');
  if (known !== undefined) return new TextDecoder().decode(known);
  const name = `tab-${crypto.randomUUID().slice(0, 13)}`;
  await storage.write('agent-id', new TextEncoder().encode(name));
  return name;
}
