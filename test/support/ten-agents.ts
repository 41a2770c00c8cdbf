import { fromBinary } from '@bufbuild/protobuf';
import { encodings, seeded, weightsFromBytes, type GridSpec } from '@commonweight/core';
import { ManifestSchema, type Manifest } from '@commonweight/proto';
import { openCoordinator } from '../../coordinator/src/coordinator.ts';
import type { CoordinatorService } from '../../coordinator/src/service.ts';
import { temporaryFolder } from './processes.ts';
import { invited, LENGTH, startTraining, TestAgent, updateOf } from './training.ts';

export const TEN_AGENTS = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j'];
/** What the agents' problems have in common: each minimises ½‖w − goal − its own offset‖². */
export const GOAL = Float32Array.from({ length: LENGTH }, (_, i) => (i % 7) / 7);

const open: CoordinatorService[] = [];
export async function closeCoordinators(): Promise<void> {
  for (const service of open.splice(0)) await service.close();
}

export async function coordinatorIn(dataDir: string): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir });
  open.push(service);
  return service;
}

/** Ten agents, all of them needed, that are invited to the first round. */
export async function tenAgents(changes: object) {
  const dataDir = temporaryFolder('ten-agents');
  const service = await coordinatorIn(dataDir);
  await startTraining(service, { cohort: { min: TEN_AGENTS.length, max: TEN_AGENTS.length }, rounds: 100, ...changes });
  const agents = TEN_AGENTS.map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  return { service, agents, dataDir, grid: await invited(agents) };
}

export const newest = async (service: CoordinatorService): Promise<Manifest> =>
  fromBinary(ManifestSchema, (await service.getModel('flowers', 0)).manifest);

export async function weightsOf(service: CoordinatorService): Promise<Float32Array> {
  const { digest } = (await newest(service)).artifacts.find(({ role }) => role === 'weights')!;
  return weightsFromBytes((await service.readBlob(digest, 0, 1_000_000)).data);
}

/** One gradient step of the agent's own problem, or what a hostile one makes of it. */
export function trained(agent: TestAgent, grid: GridSpec, { round, hostile }: { round: number; hostile: boolean }) {
  const base = weightsFromBytes(agent.assignments()[round - 1]!.weightsInline);
  const random = seeded(`${agent.id} offset`);
  const step = base.map((weight, i) => 0.7 * (GOAL[i]! + random.normal() * 0.05 - weight));
  const delta = hostile ? step.map((value) => -10 * value) : step;
  const payload = encodings.mxint8.encode(delta, grid, seeded(`${agent.id} ${round}`));
  return updateOf(agent.id, grid, { payload, round: BigInt(round), baseVersion: BigInt(round), weight: 10n });
}
