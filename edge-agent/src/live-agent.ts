import type { TrustCrypto } from '@commonweight/client-sdk';
import { ConfigError } from '@commonweight/core';
import { isName } from '@commonweight/proto';
import { Agent, type AgentIdentity } from './agent.ts';
import type { Deflate } from './deflate.ts';
import type { WatchedDevice } from './device/device.ts';
import type { AgentDisk } from './disk.ts';
import type { AgentEvent } from './events.ts';
import type { AgentLink } from './link/agent-link.ts';
import type { Willing } from './own-versions.ts';
import type { EngineName } from './training/engine.ts';
import type { Trainer } from './training/trainer.ts';

type OpenTrainer = Pick<Trainer<never>, 'train' | 'report' | 'engine' | 'close'>;

/** What of an agent differs between Node and a browser. */
export interface AgentPlatform extends Willing {
  crypto: TrustCrypto;
  /** Undefined where it has no zstd. */
  deflate: Deflate | undefined;
  /** Where its files are, for people to read. */
  place: string;
  openLink(): AgentLink;
  openDisk(onDamaged: (path: string) => void): Promise<AgentDisk>;
  openTrainer(warn: (text: string) => void): Promise<{ trainer: OpenTrainer; examples: number }>;
  /** `engine` says what trains: where one fails another takes its place. */
  openDevice(engine: () => EngineName, warn: (text: string) => void): Promise<WatchedDevice>;
}

/** An agent's life on a platform: opens what it works with, and lets go of it in the end. Throws where it cannot begin. */
export async function liveAgent(
  options: AgentIdentity & { onEvent?: (event: AgentEvent) => void },
  { crypto, deflate, place, openLink, openDisk, openTrainer, openDevice, calibrate, measureForm }: AgentPlatform,
): Promise<void> {
  if (!isName(options.agentId)) {
    throw new ConfigError(`agent id "${options.agentId}" may have up to 64 letters, digits, - and _ only`, 'id');
  }
  const link = openLink();
  const tell = options.onEvent ?? (() => {});
  try {
    const warn = (text: string): void => tell({ type: 'warning', text });
    const disk = await openDisk((path) => warn(`an update in the outbox was damaged and set aside as ${path}`));
    const others = new Set(disk.outbox.entries().map(({ header }) => header.agentId));
    others.delete(options.agentId);
    for (const other of others)
      warn(`the outbox in ${place} holds updates of agent ${other}: only that agent can send them`);
    const { trainer, examples } = await openTrainer(warn);
    tell({ type: 'data', examples });
    const device = await openDevice(() => trainer.engine, warn);
    const willing = {
      ...(calibrate === undefined ? {} : { calibrate }),
      ...(measureForm === undefined ? {} : { measureForm }),
    };
    const agent = new Agent({ options, crypto, deflate, link, disk, trainer, device, examples, tell, ...willing });
    device.watch(agent);
    try {
      await agent.run();
    } finally {
      device.close();
      // The link first: what still waits for an answer over it ends at once.
      await link.close();
      await trainer.close();
      await agent.idle();
    }
  } finally {
    await link.close();
  }
}
