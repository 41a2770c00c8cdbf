import { nodePlatform } from '@commonweight/client-sdk';
import { calibrate } from './calibration/calibrate.ts';
import { deflated } from './deflate.ts';
import { OwnDevice, type DeviceOptions } from './device/own-device.ts';
import { measureForm } from './forms/measure-form.ts';
import { liveAgent } from './live-agent.ts';
import type { AgentEvent } from './events.ts';
import { openAgentDisk } from './folder-disk.ts';
import { openAgentLink } from './link/agent-link.ts';
import type { AgentIdentity } from './agent.ts';
import type { EngineName } from './training/engine.ts';
import { cpuBudget } from './training/engines/cpu-budget.ts';
import { openTrainer } from './training/node-trainer.ts';

export interface AgentOptions extends AgentIdentity {
  /** `grpc://127.0.0.1:PORT` or `nats://127.0.0.1:PORT`. */
  coordinator: string;
  /** Data specification, see loadDataset. */
  data: string;
  /** Folder of the outbox, the cache and the coordinator's key. */
  dataDir: string;
  /** Of the training; one for each physical core but one by default. */
  threads?: number;
  /** Share of the machine's cores that training may keep busy, above 0 and up to 1. */
  cpuShare?: number;
  /** What trains; without it, or with `auto`, what is fastest here. One that does not work makes way for another. */
  engine?: EngineName | 'auto';
  /** Say how large activations are on the data when a coordinator asks for it; true by default. */
  calibrates?: boolean;
  /** Say how often a version's forms are right on the data, beside float32; true by default. */
  measuresForms?: boolean;
  /** What it says of the device that it runs on. */
  device?: DeviceOptions;
  onEvent?: (event: AgentEvent) => void;
}

/** Runs an agent until its signal aborts. Throws DataError or ConfigError where it cannot begin; else it goes on for ever. */
export function runAgent(options: AgentOptions): Promise<void> {
  const { coordinator, agentId, data, dataDir, engine = 'auto', threads, cpuShare: share, signal } = options;
  const { calibrates = true, measuresForms = true } = options;
  const own = { data, threads: threads ?? 1 };
  return liveAgent(options, {
    crypto: nodePlatform.crypto,
    deflate: deflated,
    place: dataDir,
    ...(calibrates ? { calibrate: (job) => calibrate({ ...job, ...own }, signal) } : {}),
    ...(measuresForms ? { measureForm: (job) => measureForm({ ...job, ...own }, signal) } : {}),
    openLink: () => openAgentLink(coordinator, agentId),
    openDisk: (onDamaged) => openAgentDisk(dataDir, onDamaged),
    openTrainer: (warn) => {
      const budget = cpuBudget({
        ...(threads === undefined ? {} : { threads }),
        ...(share === undefined ? {} : { share }),
      });
      return openTrainer(data, { engine, budget }, warn);
    },
    openDevice: (trainsOn, warn) => OwnDevice.open(options.device ?? {}, trainsOn, warn),
  });
}
