// Agents in one process that are as slow as devices: real sessions, real training, and then a wait until the device's time is over.
// Arguments: one JSON object, see PacedFleet.
import { join } from 'node:path';
import { loadDataset, LoadedGraphs, LocalTrainer, openEngine } from '@commonweight/edge-agent';
import { Agent } from '../../edge-agent/src/agent.ts';
import { deflated } from '../../edge-agent/src/deflate.ts';
import { nodePlatform } from '@commonweight/client-sdk';
import { openAgentDisk } from '../../edge-agent/src/folder-disk.ts';
import { openAgentLink } from '../../edge-agent/src/link/agent-link.ts';

export interface PacedFleet {
  url: string;
  folder: string;
  agents: readonly { id: string; data: string; deviceMs: number }[];
}

const { url, folder, agents } = JSON.parse(process.argv[2] ?? '') as PacedFleet;
const graphs = new LoadedGraphs(await openEngine('ort-cpu', { threads: 1 }), 2);
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());

async function runOne({ id, data, deviceMs }: PacedFleet['agents'][number]): Promise<void> {
  const dataset = await loadDataset(data);
  const trainer = new LocalTrainer(dataset, graphs);
  const link = openAgentLink(url, id);
  const warn = (path: string): void => console.error(`${id}: damaged: ${path}`);
  const agent = new Agent({
    options: { agentId: id, coordinator: url, signal: stop.signal },
    link,
    crypto: nodePlatform.crypto,
    deflate: deflated,
    disk: await openAgentDisk(join(folder, id), warn),
    trainer: {
      train: async (job) => {
        const beganMs = performance.now();
        const trained = await trainer.train(job);
        const ms = Math.max(performance.now() - beganMs, deviceMs);
        await new Promise((resolve) => setTimeout(resolve, ms - (performance.now() - beganMs)));
        return { ...trained, ms };
      },
    },
    examples: dataset.examples,
    tell: (event) => {
      if (event.type === 'warning' || event.type === 'failure') console.error(`${id}: ${JSON.stringify(event)}`);
    },
  });
  await agent.run();
  await link.close();
  await agent.idle();
}

await Promise.all(agents.map(runOne));
