import { execFile } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mlp, quantizeModel, readModel, writeModel, type ModelProto } from '@commonweight/core';
import { describe, expect, test } from 'vitest';

const FLAGS = ['--conditions=@commonweight/source', '--disable-warning=ExperimentalWarning'];
const main = join(import.meta.dirname, '../main.ts');
const folder = mkdtempSync(join(tmpdir(), 'commonweight-check-'));

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

function check(bytes: Uint8Array, ...flags: string[]): Promise<Ended> {
  const file = join(folder, 'model.onnx');
  writeFileSync(file, bytes);
  return new Promise((resolve) => {
    // A file that declares 2 GB must not make anybody ask for them.
    const args = ['--max-old-space-size=256', ...FLAGS, main, 'model', 'check', file, ...flags];
    const child = execFile(process.execPath, args, (_, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

const small = (): ModelProto => mlp({ inputs: 4, hidden: [8], outputs: 3, seed: 1 });
const changed = (change: (model: ModelProto) => void): Uint8Array => {
  const model = readModel(writeModel(small()));
  change(model);
  return writeModel(model);
};

describe('model check', () => {
  test('says what of a model is trained, how many numbers, and what a step takes', async () => {
    const { code, stdout } = await check(writeModel(small()), '--batch', '16');
    expect(code).toBe(0);
    expect(stdout).toContain('input float[batch, 4] -> logits float[batch, 3]');
    expect(stdout).toContain('67 parameters in 4 tensors; a step of 16 examples takes at most');
    expect(stdout).toMatch(/Gemm +2$/m);
    expect(stdout).toContain('runs on ort-cpu');
    expect(stdout).toContain('can be trained by ort-cpu');
    const [line = ''] = (await check(writeModel(small()), '--json')).stdout.split('\n');
    expect(JSON.parse(line)).toMatchObject({
      trainable: true,
      parameters: 67,
      tensors: 4,
      batch: 32,
      runs: expect.arrayContaining(['ort-cpu', 'ort-web']) as string[],
      engines: expect.arrayContaining(['ort-cpu', 'ort-web']) as string[],
    });
  });

  test('names each node that has no gradient, and what to do', async () => {
    const bytes = changed(({ graph }) => {
      graph!.node[1]!.opType = 'Round';
      graph!.node[1]!.name = 'rounding';
    });
    const { code, stdout, stderr } = await check(bytes);
    expect(code).toBe(2);
    expect(stdout).toContain("node 'rounding': Round has no gradient; it is flat almost everywhere");
    // It runs all the same.
    expect(stdout).toContain('runs on ort-cpu');
    expect(stderr).toMatch(/^commonweight: .*model\.onnx cannot be trained so: .*rounding/);
    expect(stderr.trim().split('\n').length).toBe(1);
  });

  const bad: [string, Uint8Array, RegExp][] = [
    ['a file that is not ONNX', new TextEncoder().encode('<html>not here</html>'), /are not ONNX/],
    ['a file that was cut short', writeModel(small()).slice(0, -40), /cut short/],
    [
      'weights in another file',
      changed(
        ({ graph }) =>
          void graph!.initializer[0]!.externalData.push({
            $typeName: 'onnx.StringStringEntryProto',
            key: 'location',
            value: '/etc/passwd',
          }),
      ),
      /keeps its data in another file/,
    ],
    [
      '2 GB of weights declared in 1 kB',
      changed(({ graph }) => {
        const [first] = graph!.initializer;
        first!.dims = [512n, 1024n, 1024n];
        first!.rawData = first!.rawData.slice(0, 8);
      }),
      /has 2 values where its shape \[512,1024,1024\] needs 536870912/,
    ],
    [
      '2 GB of weights declared in nothing',
      changed(({ graph }) => {
        const [first] = graph!.initializer;
        first!.dims = [512n, 1024n, 1024n];
        first!.rawData = new Uint8Array();
      }),
      /has no values/,
    ],
    [
      'an operator set of the future',
      changed(({ opsetImport }) => void (opsetImport[0]!.version = 99n)),
      /operator set 99/,
    ],
    ['a Loop', changed(({ graph }) => void (graph!.node[1]!.opType = 'Loop')), /Loop/],
    [
      'an int8 form',
      writeModel(quantizeModel(small(), 'dynamic-int8').model),
      /is of a quantized form; train the float32 model/,
    ],
  ];
  test.each(bad)('%s is refused in one line', async (_, bytes, words) => {
    const { code, stderr, stdout } = await check(bytes);
    expect({ stderr, stdout }).toMatchObject({ stderr: expect.stringMatching(words) as string });
    expect(code).toBe(2);
    expect(stderr.trim().split('\n').length).toBe(1);
    expect(stderr).not.toMatch(/\n\s+at /);
  });
});
