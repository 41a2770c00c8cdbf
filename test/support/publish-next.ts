import { create, fromBinary } from '@bufbuild/protobuf';
import { sha256 } from '@commonweight/client-sdk';
import type { CoordinatorService } from '@commonweight/coordinator';
import { weightsToBytes } from '@commonweight/core';
import {
  HelloSchema,
  ManifestSchema,
  SessionRequestSchema,
  UpdateHeaderSchema,
  updateId,
  type Assignment,
} from '@commonweight/proto';
import { until } from './processes.ts';

let tasks = 0;

/** Publishes the next version of a model: a round of one agent whose update changes every weight by `delta`. */
export async function publishNext(
  service: CoordinatorService,
  model: string,
  delta: number | Float32Array = 0,
  changes: object = {},
): Promise<void> {
  const task = `publish-${(tasks += 1)}`;
  const agentId = `publisher-${tasks}`;
  const plan = {
    loss: 'cross-entropy',
    optimizer: { name: 'sgd', learningRate: 0.1 },
    epochs: 1,
    batchSize: 1,
  };
  const config = { model, plan, encoding: 'float32', cohort: { min: 1, max: 1 }, rounds: 1, ...changes };
  await service.createTask(task, JSON.stringify(config));
  const assigned = Promise.withResolvers<Assignment>();
  const hello = create(HelloSchema, { agentId, sessionId: agentId, software: '0.1.0', task, examples: 1n });
  const session = service.connectAgent(hello, {
    send: ({ message }) => message.case === 'assignment' && assigned.resolve(message.value),
    close: () => {},
  });
  session.receive(create(SessionRequestSchema, { sessionId: agentId, message: { case: 'ready', value: {} } }));
  await service.startTask(task);
  const { round, base, encoding } = await assigned.promise;
  if (base === undefined) throw new Error('an assignment has a base');
  const { version, artifacts } = fromBinary(ManifestSchema, base.manifest);
  const length = Number(artifacts.find(({ role }) => role === 'weights')?.size) / 4;
  const payload = weightsToBytes(typeof delta === 'number' ? new Float32Array(length).fill(delta) : delta);
  const payloadDigest = sha256(payload);
  const identity = { agentId, task, round: Number(round), baseVersion: Number(version), payloadDigest };
  const header = create(UpdateHeaderSchema, {
    updateId: updateId(identity, sha256),
    agentId,
    task,
    round,
    baseVersion: version,
    encoding,
    weight: 1n,
    payloadDigest,
    payloadSize: BigInt(payload.length),
  });
  const { accepted } = await service.submitChunk(agentId, header, 0, payload);
  if (!accepted) throw new Error(`the update for '${model}' was refused`);
  await until('the round to be published', 10_000, async () => (await service.getTask(task)).state === 'finished');
  session.closed();
}
