import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { logistic, writeModel, type GridSpec } from '@commonweight/core';
import { ManifestSchema, type Manifest } from '@commonweight/proto';
import { expect } from 'vitest';
import { openCoordinator } from '../../coordinator/src/coordinator.ts';
import type { AgentGate, CoordinatorService } from '../../coordinator/src/service.ts';
import { PostgresServer } from './postgres.ts';
import { temporaryFolder } from './processes.ts';
import { config, invited, TestAgent } from './training.ts';

/** Coordinators that share databases of one PostgreSQL server. */
export class Replicas {
  readonly #server: PostgresServer;

  private constructor(server: PostgresServer) {
    this.#server = server;
  }

  static async start(): Promise<Replicas> {
    return new Replicas(await PostgresServer.start());
  }

  /** Coordinators of a new database, the first of which leads. */
  async open(count: number): Promise<{ services: CoordinatorService[]; close(): Promise<void> }> {
    const postgres = this.#server.url(await this.#server.database());
    const folder = temporaryFolder('replicas');
    const services: CoordinatorService[] = [];
    const fatal: Error[] = [];
    for (let i = 0; i < count; i++) {
      const dataDir = join(folder, String(i));
      mkdirSync(dataDir);
      if (i > 0) copyFileSync(join(folder, '0', 'signing-key.pem'), join(dataDir, 'signing-key.pem'));
      services.push(await openCoordinator({ dataDir, postgres, onFatal: (error) => fatal.push(error) }));
    }
    const close = async (): Promise<void> => {
      for (const service of services.reverse()) await service.close();
      expect(fatal).toEqual([]);
    };
    return { services, close };
  }

  async close(): Promise<void> {
    await this.#server.close();
  }
}

/**
 * Agents that are spread over coordinators, and last the evaluators, all of them invited to the first round of a task that is made with
 * these changes.
 */
export async function spread(
  services: readonly CoordinatorService[],
  changes: object & { evaluators?: readonly string[]; strategy?: object },
  ids: readonly string[],
  /** Where agents come, one after the other. */
  gates: readonly AgentGate[] = services,
): Promise<{ agents: TestAgent[]; grid: GridSpec }> {
  const leader = services[0]!;
  await leader.importModel('flowers', writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
  const cohort = { min: ids.length, max: ids.length };
  await leader.createTask('train', JSON.stringify({ ...config, cohort, ...changes }));
  const { evaluators = [] } = changes;
  const agents = [...ids, ...evaluators].map((id, i) => {
    return new TestAgent(gates[i % gates.length]!, id, { evaluator: evaluators.includes(id) });
  });
  for (const agent of agents) agent.ready();
  // A round opens as soon as the minimum is ready.
  const ready = async (): Promise<number> => (await leader.listAgents()).filter((agent) => agent.ready).length;
  await expect.poll(ready).toBe(agents.length);
  await leader.startTask('train');
  return { agents, grid: await invited(agents) };
}

export const newestOf = async (service: CoordinatorService): Promise<Manifest> =>
  fromBinary(ManifestSchema, (await service.getModel('flowers', 0)).manifest);

/** What of the newest version must not depend on who folded what. */
export async function essenceOf(service: CoordinatorService): Promise<string> {
  const { artifacts, contributionsDigest, totalWeight, metrics, round } = await newestOf(service);
  const digests = artifacts.map(({ role, digest }) => `${role} ${Buffer.from(digest).toString('hex')}`);
  const list = Buffer.from(contributionsDigest).toString('hex');
  return JSON.stringify({ digests, list, totalWeight: Number(totalWeight), metrics, round: Number(round) });
}
