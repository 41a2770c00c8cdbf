import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { startCoordinator } from '@commonweight/coordinator';
import { layoutOf, logistic, readModel, splitModel, weightsFromBytes, writeModel } from '@commonweight/core';
import { runAgent } from '@commonweight/edge-agent';
import { ManifestSchema } from '@commonweight/proto';
import { afterEach, expect, test } from 'vitest';
import { temporaryFolder, until } from '../support/processes.ts';

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

const AGENTS = 3;
const ROUNDS = 3;
const model = logistic({ inputs: 784, outputs: 10, seed: 1 });

/** Some rounds of a coordinator and agents that all take part; what stands then at both ends. */
async function federate(changes: { strategy?: object; plan?: object }) {
  const folder = temporaryFolder('strategies');
  const { service, grpcPort, close } = await startCoordinator({
    dataDir: join(folder, 'coordinator'),
    grpc: '127.0.0.1:0',
    http: '127.0.0.1:0',
  });
  closers.push(close);
  await service.importModel('digits', writeModel(model));
  await service.createTask(
    'train',
    JSON.stringify({
      model: 'digits',
      encoding: 'float32',
      cohort: { min: AGENTS, max: AGENTS },
      rounds: ROUNDS,
      ...changes,
      plan: {
        loss: 'cross-entropy',
        optimizer: { name: 'sgd', learningRate: 0.05 },
        epochs: 1,
        batchSize: 16,
        ...changes.plan,
      },
    }),
  );
  await service.startTask('train');
  const failures: string[] = [];
  const dirs = Array.from({ length: AGENTS }, (_, i) => join(folder, `a${i}`));
  for (const [i, dataDir] of dirs.entries()) {
    const stop = new AbortController();
    const running = runAgent({
      coordinator: `grpc://127.0.0.1:${grpcPort}`,
      data: `mnist?partition=${i}/30&alpha=0.3&seed=1`,
      agentId: `a${i}`,
      dataDir,
      signal: stop.signal,
      onEvent: (event) => {
        if (event.type === 'failure') failures.push(event.reason);
      },
    });
    closers.push(() => {
      stop.abort();
      return running;
    });
  }
  const isDone = async (): Promise<boolean> => (await service.getTask('train')).state === 'finished';
  await until('the task to finish', 40_000, isDone, () => failures.join('\n'));
  expect(failures).toEqual([]);
  const manifest = fromBinary(ManifestSchema, (await service.getModel('digits', 0)).manifest);
  const vector = async (role: string): Promise<Float32Array> => {
    const { digest, size } = manifest.artifacts.find((artifact) => artifact.role === role)!;
    return weightsFromBytes((await service.readBlob(digest, 0, Number(size))).data);
  };
  // The values are followed by their digest.
  const own = (agent: number, name: string): Float32Array =>
    weightsFromBytes(readFileSync(join(dirs[agent]!, `own-train.${name}.f32`)).subarray(0, -32));
  return { manifest, vector, own };
}

test("scaffold: the server's variate is the mean of those that the agents keep", async () => {
  const { manifest, vector, own } = await federate({ strategy: { name: 'scaffold' } });
  expect(manifest).toMatchObject({ version: BigInt(ROUNDS + 1), strategy: 'scaffold', totalWeight: BigInt(AGENTS) });
  const server = await vector('server-memory');
  // An agent writes its vector after its update is safe, and before it sends it.
  const kept = Array.from({ length: AGENTS }, (_, i) => own(i, 'kept'));
  const largest = server.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  expect(largest).toBeGreaterThan(0.01);
  for (const [i, value] of server.entries()) {
    const mean = kept.reduce((sum, vectorOfAgent) => sum + vectorOfAgent[i]!, 0) / AGENTS;
    expect(Math.abs(value - mean)).toBeLessThan(1e-5 * largest + 1e-6);
  }
});

test('fedNova with layers that stay with the agents: they move there, and not in what is published', async () => {
  const { weights, graph } = splitModel(model);
  const bias = layoutOf(readModel(graph)).parameters.find(({ length }) => length === 10)!;
  const { vector, own } = await federate({
    strategy: { name: 'fedNova' },
    plan: { localLayers: [bias.name], optimizer: { name: 'sgd', learningRate: 0.05, momentum: 0.5 } },
  });
  const published = await vector('weights');
  const part = (whole: Float32Array): Float32Array => whole.slice(bias.offset, bias.offset + bias.length);
  expect(part(published)).toEqual(part(weights));
  expect(published).not.toEqual(weights);
  const layers = Array.from({ length: AGENTS }, (_, i) => own(i, 'layers'));
  for (const layer of layers) expect(layer).toHaveLength(10);
  expect(layers[0]).not.toEqual(layers[1]);
});

test('what a model does not have is refused when the task is made', async () => {
  await expect(federate({ plan: { localLayers: ['head.*'] } })).rejects.toThrow(
    /no parameter is named "head.\*": there are/,
  );
  await expect(federate({ plan: { local: { name: 'scaffold' } } })).rejects.toThrow(/choose the strategy instead/);
});
