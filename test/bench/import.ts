/**
 * Memory of `model import`: a model of 500 MB on its way from a file to a coordinator. Peaks are those of the whole process less what it has
 * before the file comes, as shares of the file.
 */
import { closeSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { writeModel } from '@commonweight/core';
import { makeModel, makeNode, makeValue } from '../../core/src/onnx/nodes.ts';
import { floatTensor } from '../../core/src/onnx/tensor-data.ts';
import { freePort } from '../support/free-port.ts';
import { figuresOf } from '../support/process-figures.ts';
import { commonweight, listening, temporaryFolder, type Program } from '../support/processes.ts';

/** Layers of a chain, each a matrix of 1024 by 1024: 4 MiB. */
const LAYERS = 119;
const WIDTH = 1024;

export async function run({ quick }: { quick: boolean }): Promise<Record<string, number | null>> {
  const folder = temporaryFolder('bench-import');
  const file = join(folder, 'large.onnx');
  writeLarge(file, quick ? 20 : LAYERS);
  const size = statSync(file).size;
  const programs: Program[] = [];
  try {
    const port = await freePort();
    const url = `grpc://127.0.0.1:${port}`;
    const at = ['--grpc', `127.0.0.1:${port}`, '--http', `127.0.0.1:${await freePort()}`];
    const coordinator = commonweight('coordinator', '--data', join(folder, 'data'), ...at);
    programs.push(coordinator);
    await listening(port, coordinator);
    const idle = figuresOf(coordinator).peakRssMib;
    const small = await imported(writeSmall(folder), url);
    const startMs = performance.now();
    const { peakRssMib } = await imported(file, url);
    const seconds = (performance.now() - startMs) / 1000;
    const mib = size / 1024 ** 2;
    return {
      file_mib: mib,
      import_s: seconds,
      client_peak_ratio: (peakRssMib - small.peakRssMib) / mib,
      coordinator_peak_ratio: (figuresOf(coordinator).peakRssMib - idle) / mib,
    };
  } finally {
    for (const one of programs.reverse()) await one.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Imports a file with a process of its own, and gives the most memory that it had. */
async function imported(file: string, url: string): Promise<{ peakRssMib: number }> {
  const client = commonweight('model', 'import', file, '--coordinator', url);
  let peakRssMib = 0;
  let code: number | null = null;
  const exit = new Promise<void>((resolve) => client.child.once('exit', (exitCode) => (resolve(), (code = exitCode))));
  const timer = setInterval(() => {
    // It may end at any moment, and then has no figures.
    if (client.child.exitCode !== null) return;
    try {
      peakRssMib = Math.max(peakRssMib, figuresOf(client).peakRssMib || 0);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }, 20);
  await exit;
  clearInterval(timer);
  if (code !== 0) throw new Error(client.output());
  return { peakRssMib };
}

function chain(layers: number): { head: Uint8Array; tensor: (index: number) => Uint8Array } {
  const node = Array.from({ length: layers }, (_, index) =>
    makeNode('MatMul', [index === 0 ? 'x' : `y${index - 1}`, `w${index}`], [`y${index}`]),
  );
  const parts = {
    name: 'chain',
    input: [makeValue('x', ['batch', WIDTH])],
    output: [makeValue(`y${layers - 1}`, ['batch', WIDTH])],
  };
  const head = writeModel(makeModel({ ...parts, node, initializer: [] }));
  const values = Float32Array.from({ length: WIDTH * WIDTH }, (_, index) => Math.sin(index));
  const empty = makeModel({ name: '', node: [], initializer: [], input: [], output: [] });
  return {
    head,
    // A model of one tensor and nothing else: protobuf merges what is written one after the other.
    tensor: (index) =>
      writeModel({
        ...empty,
        irVersion: 0n,
        producerName: '',
        opsetImport: [],
        graph: { ...empty.graph!, initializer: [floatTensor(`w${index}`, [WIDTH, WIDTH], values)] },
      }),
  };
}

/** Tensor by tensor, so that this process has little of it in memory. */
function writeLarge(file: string, layers: number): void {
  const { head, tensor } = chain(layers);
  const out = openSync(file, 'w');
  writeSync(out, head);
  for (let index = 0; index < layers; index++) writeSync(out, tensor(index));
  closeSync(out);
}

function writeSmall(folder: string): string {
  const file = join(folder, 'small.onnx');
  writeLarge(file, 1);
  return file;
}
