import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { mlp, writeModel } from '@commonweight/core';
import { adminOf } from '../support/admin.ts';
import { freePort } from '../support/free-port.ts';
import type { LoadFleet } from '../support/load-agents.ts';
import { figuresOf, loopDelayMs } from '../support/process-figures.ts';
import {
  commonweight,
  listening,
  natsServer,
  sourceProgram,
  temporaryFolder,
  until,
  type Program,
} from '../support/processes.ts';

const FULL = { agents: 10_000, participants: 1_000, rounds: 2 };
const QUICK = { agents: 1_000, participants: 200, rounds: 1 };
/** Processes that play agents, half of them over gRPC and half over NATS. */
const PROCESSES = 4;
/** 198,760 parameters. */
const MODEL = { inputs: 784, hidden: [250], outputs: 10, seed: 1 };
const PARAMETERS = 784 * 250 + 250 + 250 * 10 + 10;
const WAIT_MS = 300_000;
/** Heartbeats and nothing else, for the figures of a fleet that waits. */
const IDLE_MS = 20_000;

/**
 * Ten thousand agents with a session each on one coordinator, half over gRPC and half over NATS, and rounds of a thousand of them: each fetches
 * the weights, and sends an update in MXINT8. CPU and memory are the coordinator's. The baseline is the same coordinator before anybody came.
 */
export async function run({ quick }: { quick: boolean }): Promise<Record<string, number | null>> {
  const { agents, participants, rounds } = quick ? QUICK : FULL;
  const folder = temporaryFolder('bench-fleet');
  const programs: Program[] = [];
  const [grpc, http, natsPort] = [await freePort(), await freePort(), await freePort()];
  try {
    const nats = natsServer(natsPort);
    programs.push(nats);
    await listening(natsPort, nats);
    const urls = [`grpc://127.0.0.1:${grpc}`, `nats://127.0.0.1:${natsPort}`];
    const at = ['--grpc', `127.0.0.1:${grpc}`, '--http', `127.0.0.1:${http}`, '--nats', urls[1]!];
    const coordinator = commonweight('coordinator', '--data', join(folder, 'data'), ...at);
    programs.push(coordinator);
    await listening(grpc, coordinator);
    const admin = adminOf(grpc);
    await admin.importModel('fleet', writeModel(mlp(MODEL)));
    await admin.createTask('train', {
      model: 'fleet',
      plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 },
      cohort: { min: participants, max: participants },
      rounds,
    });
    const empty = figuresOf(coordinator);
    const beganMs = performance.now();
    for (let i = 0; i < PROCESSES; i++) {
      const fleet: LoadFleet = { url: urls[i % 2]!, name: `load-${i}`, agents: agents / PROCESSES, downloads: true };
      programs.push(sourceProgram('test/support/load-agents.ts', JSON.stringify(fleet)));
    }
    const task = () => admin.task('train');
    await until('all agents', WAIT_MS, async () => (await task()).agentsOnline >= agents, coordinator.output);
    const connectedMs = performance.now() - beganMs;
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    const [waiting, waitingMs] = [figuresOf(coordinator), performance.now()];
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    const idle = figuresOf(coordinator);
    const idleMs = performance.now() - waitingMs;
    await loopDelayMs(http);
    const roundsMs = performance.now();
    await admin.startTask('train');
    await until('the rounds', WAIT_MS, async () => (await task()).state === 'finished', coordinator.output);
    const seconds = (performance.now() - roundsMs) / 1000;
    const { bytesUp, bytesDown, updatesAccepted } = await task();
    const busy = figuresOf(coordinator);
    admin.close();
    const deviceRounds = Number(updatesAccepted);
    return {
      agents,
      participants,
      parameters: PARAMETERS,
      connect_s: connectedMs / 1000,
      rss_mib: busy.peakRssMib,
      rss_empty_mib: empty.rssMib,
      rss_kib_per_agent: ((idle.rssMib - empty.rssMib) * 1024) / agents,
      idle_cpu_share: (1000 * (idle.cpuS - waiting.cpuS)) / idleMs,
      loop_p99_ms: await loopDelayMs(http),
      round_s: seconds / rounds,
      updates_per_s: deviceRounds / seconds,
      bytes_per_device_round: Number(bytesUp + bytesDown) / deviceRounds,
      cpu_s_per_device_round: (busy.cpuS - idle.cpuS) / deviceRounds,
      ratio_rss_empty: busy.peakRssMib / empty.rssMib,
    };
  } finally {
    for (const one of programs.reverse()) await one.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}
