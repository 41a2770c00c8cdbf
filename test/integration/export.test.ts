import { connect } from '@commonweight/client-sdk';
import {
  mlp,
  readModel,
  readSafetensors,
  weightsToSafetensors,
  withSafetensors,
  writeModel,
  writeSafetensors,
  type StoredTensor,
} from '@commonweight/core';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { adminOf } from '../support/admin.ts';
import { freePort } from '../support/free-port.ts';
import { commonweight, listening, temporaryFolder, type Program } from '../support/processes.ts';

const folder = temporaryFolder('export');
const shape = { inputs: 4, hidden: [3], outputs: 2 };
const model = mlp({ ...shape, seed: 1 });
let coordinator: Program;
let [port, httpPort] = [0, 0];

beforeAll(async () => {
  [port, httpPort] = [await freePort(), await freePort()];
  const addresses = ['--grpc', `127.0.0.1:${port}`, '--http', `127.0.0.1:${httpPort}`];
  coordinator = commonweight('coordinator', '--data', join(folder, 'data'), ...addresses);
  await listening(port, coordinator);
  const admin = adminOf(port);
  await admin.importModel('small', writeModel(model));
  admin.close();
});

afterAll(async () => {
  await coordinator.end('SIGTERM');
  await rm(folder, { recursive: true });
});

async function succeed(...args: string[]): Promise<void> {
  const program = commonweight(...args);
  const [code] = (await once(program.child, 'exit')) as [number];
  if (code !== 0) throw new Error(program.output());
}

async function exported(file: string, ...args: string[]): Promise<Uint8Array> {
  const path = join(folder, file);
  const url = `grpc://127.0.0.1:${port}`;
  await succeed('model', 'export', 'small', path, '--coordinator', url, ...args);
  return readFileSync(path);
}

test('a version is exported as ONNX, and its weights as safetensors', async () => {
  expect(writeModel(readModel(await exported('small.onnx')))).toEqual(writeModel(model));
  const weights = await exported('small.safetensors', '--format', 'safetensors');
  expect([...readSafetensors(weights).tensors.keys()].sort()).toEqual([
    'hidden1.bias',
    'hidden1.weight',
    'output.bias',
    'output.weight',
  ]);
  expect(writeModel(withSafetensors(mlp({ ...shape, seed: 2 }), weights))).toEqual(writeModel(model));
});

describe('weights from safetensors', () => {
  const url = (): string => `grpc://127.0.0.1:${port}`;
  const [graph, file] = [join(folder, 'graph.onnx'), join(folder, 'given.safetensors')];
  const importing = async (name: string, weights: Uint8Array, ...args: string[]): Promise<void> => {
    writeFileSync(graph, writeModel(mlp({ ...shape, seed: 2 })));
    writeFileSync(file, weights);
    await succeed('model', 'import', graph, '--name', name, '--weights', file, '--coordinator', url(), ...args);
  };

  test('a version is imported from a graph and the weights that another one was exported with', async () => {
    await importing('filled', await exported('small.safetensors', '--format', 'safetensors'));
    const path = join(folder, 'filled.onnx');
    await succeed('model', 'export', 'filled', path, '--coordinator', url());
    expect(writeModel(readModel(readFileSync(path)))).toEqual(writeModel(model));
  });

  test('they are put in before anything else is changed, also in a file', async () => {
    const path = join(folder, 'adapted.onnx');
    await importing('adapted', weightsToSafetensors(model), '--train', 'output.*', '--file', path);
    const kept = readSafetensors(weightsToSafetensors(readModel(readFileSync(path)))).tensors;
    for (const [name, tensor] of readSafetensors(weightsToSafetensors(model)).tensors)
      expect([name, kept.get(name)]).toEqual([name, tensor]);
  });

  test('what lacks, what is left over and what does not fit is named', async () => {
    const { tensors } = readSafetensors(weightsToSafetensors(model));
    const changed = (change: (of: Map<string, StoredTensor>) => void): Uint8Array => {
      const all = new Map(tensors);
      change(all);
      return writeSafetensors(all);
    };
    const bias = tensors.get('output.bias')!;
    const bad: [Uint8Array, RegExp][] = [
      [changed((all) => all.delete('output.bias')), /given.safetensors: weight 'output.bias' is not in the file/],
      [changed((all) => all.set('more', bias)), /given.safetensors: the model has no weight 'more'/],
      [
        changed((all) => all.set('output.bias', { ...bias, shape: [1, 2] })),
        /weight 'output.bias' is F32\[1,2\] in the file and F32\[2\] in the model/,
      ],
      [Uint8Array.of(1, 2, 3), /given.safetensors: the file is no safetensors file/],
    ];
    for (const [weights, why] of bad) await expect(importing('bad', weights)).rejects.toThrow(why);
  });
});

test('a bundle comes with an app, which starts from it without a network', async () => {
  const bundle = join(folder, 'bundle-of-small');
  const url = `http://127.0.0.1:${httpPort}`;
  await succeed('model', 'export', 'small', bundle, '--format', 'bundle', '--coordinator', url);
  const part = (name: string): Uint8Array => readFileSync(join(bundle, name));
  const client = await connect('grpc://127.0.0.1:1');
  const bootstrap = () => ({ release: part('release'), graph: part('graph'), weights: part('weights') });
  const app = await client.model('small', { bootstrap });
  expect((await app.predict({ input: new Float32Array(4) })).outputs['logits']?.dims).toEqual([1, 2]);
  await client.close();
});

test('the contract of a model is written as a declaration', async () => {
  const file = join(folder, 'small.d.ts');
  await succeed('model', 'types', 'small', file, '--coordinator', `grpc://127.0.0.1:${port}`);
  expect(readFileSync(file, 'utf8')).toContain('export interface Small {');
});

test('an unknown format is wrong usage', async () => {
  await expect(exported('small.bin', '--format', 'pickle')).rejects.toThrow('Choose one of onnx, safetensors');
});
