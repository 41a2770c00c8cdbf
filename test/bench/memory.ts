import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { mlp, writeModel } from '@commonweight/core';
import { adminOf } from '../support/admin.ts';
import { freePort } from '../support/free-port.ts';
import type { LoadFleet } from '../support/load-agents.ts';
import { figuresOf } from '../support/process-figures.ts';
import { commonweight, listening, sourceProgram, temporaryFolder, until, type Program } from '../support/processes.ts';

/** 1,663,150 parameters. */
const MODEL = { inputs: 784, hidden: [2_092], outputs: 10, seed: 1 };
const WAIT_MS = 300_000;

/** Agents that are connected, so that the same is there before a round of few updates and of many. */
const AGENTS = 1_000;
const AGENTS_QUICK = 100;

/** The most memory that a coordinator takes for a round of 10, 100 and 1,000 updates of 1.66 million parameters, each on a coordinator of its own. */
export async function run({ quick }: { quick: boolean }): Promise<Record<string, number | null>> {
  const agents = quick ? AGENTS_QUICK : AGENTS;
  const few = await peakMib(10, agents);
  const some = await peakMib(100, agents);
  const many = quick ? null : await peakMib(1_000, agents);
  return {
    rss_mib_10: few,
    rss_mib_100: some,
    rss_mib_1000: many,
    growth_10_to_100: some / few,
    growth_10_to_1000: many === null ? null : many / few,
  };
}

async function peakMib(updates: number, agents: number): Promise<number> {
  const folder = temporaryFolder(`bench-memory-${updates}`);
  const programs: Program[] = [];
  const port = await freePort();
  try {
    const at = ['--grpc', `127.0.0.1:${port}`, '--http', `127.0.0.1:${await freePort()}`];
    const coordinator = commonweight('coordinator', '--data', join(folder, 'data'), ...at);
    programs.push(coordinator);
    await listening(port, coordinator);
    const admin = adminOf(port);
    await admin.importModel('large', writeModel(mlp(MODEL)));
    await admin.createTask('train', {
      model: 'large',
      plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 },
      cohort: { min: updates, max: updates },
      rounds: 1,
    });
    const fleet: LoadFleet = { url: `grpc://127.0.0.1:${port}`, name: 'load', agents, downloads: false };
    programs.push(sourceProgram('test/support/load-agents.ts', JSON.stringify(fleet)));
    const task = () => admin.task('train');
    await until('all agents', WAIT_MS, async () => (await task()).agentsOnline >= agents, coordinator.output);
    await admin.startTask('train');
    await until('the round', WAIT_MS, async () => (await task()).state === 'finished', coordinator.output);
    admin.close();
    return figuresOf(coordinator).peakRssMib;
  } finally {
    for (const one of programs.reverse()) await one.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}
