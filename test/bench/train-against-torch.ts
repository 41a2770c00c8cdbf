/**
 * Steps of the same models here and in PyTorch, turn by turn, one thread each: a machine that others use is slow for both. PyTorch is a
 * `python3` with torch, on PATH or named in PYTHON; without one there is nothing to compare with.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { fedAvg2nn, fedAvgCnn, type ModelProto } from '@commonweight/core';
import { resnet18, transformer2 } from './train-models.ts';
import { ourStepper } from './train-step.ts';

/** Name in train-torch.py, batch, and how many steps make a turn of half a second or so. */
const CASES: readonly { figure: string; name: string; batch: number; steps: number; model: () => ModelProto }[] = [
  { figure: '2nn_b32', name: '2nn', batch: 32, steps: 400, model: () => fedAvg2nn(1) },
  { figure: 'cnn_b10', name: 'cnn', batch: 10, steps: 30, model: () => fedAvgCnn(1) },
  { figure: 'cnn_b32', name: 'cnn', batch: 32, steps: 15, model: () => fedAvgCnn(1) },
  { figure: 'resnet18_b32', name: 'resnet18', batch: 32, steps: 4, model: () => resnet18() },
  { figure: 'resnet18_small_b32', name: 'resnet18_small', batch: 32, steps: 1, model: () => resnet18({ small: true }) },
  { figure: 'transformer_b32', name: 'transformer', batch: 32, steps: 6, model: () => transformer2() },
];
const TURNS = 12;

export async function againstTorch(): Promise<Record<string, number | null>> {
  const figures: Record<string, number | null> = {};
  const torch = await openTorch();
  for (const { figure, name, batch, steps, model } of CASES) {
    const ours = await ourStepper(model(), batch);
    const [own, theirs]: [number[], number[]] = [[], []];
    for (let turn = 0; turn < TURNS; turn++) {
      own.push(...(await ours.run(steps)));
      theirs.push(...((await torch?.run(name, batch, steps)) ?? []));
    }
    await ours.release();
    figures[`ms_min_${figure}`] = Math.min(...own);
    figures[`torch_ms_min_${figure}`] = torch === undefined ? null : Math.min(...theirs);
    figures[`ratio_torch_${figure}`] = torch === undefined ? null : Math.min(...own) / Math.min(...theirs);
    figures[`ratio_torch_median_${figure}`] = torch === undefined ? null : median(own) / median(theirs);
  }
  torch?.end();
  figures['memory_ratio_torch_resnet18'] = await memoryRatio();
  return figures;
}

/** Peak memory of a process that has taken ten steps of ResNet-18, here over there. */
async function memoryRatio(): Promise<number | null> {
  const torch = await openTorch();
  if (torch === undefined) return null;
  await torch.run('resnet18', 32, 10);
  const theirs = await torch.memory();
  torch.end();
  const child = spawn(process.execPath, [...process.execArgv, join(import.meta.dirname, 'train-memory.ts')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface({ input: child.stdout })) return Number(line) / theirs;
  throw new Error('train-memory.ts said nothing');
}

export const median = (times: readonly number[]): number => times.toSorted((a, b) => a - b)[times.length >> 1]!;

interface Torch {
  run(name: string, batch: number, steps: number): Promise<number[]>;
  /** Peak of the process, in bytes. */
  memory(): Promise<number>;
  end(): void;
}

/** Undefined where there is no python3 with torch. */
async function openTorch(): Promise<Torch | undefined> {
  const script = join(import.meta.dirname, 'train-torch.py');
  const child: ChildProcess = spawn(process.env['PYTHON'] ?? 'python3', [script], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const gone = new Promise<undefined>((resolve) => {
    child.once('error', () => resolve(undefined));
    child.once('exit', () => resolve(undefined));
  });
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  const next = async <T>(): Promise<T | undefined> => {
    const line = await Promise.race([lines.next(), gone]);
    return line === undefined || line.done === true ? undefined : (JSON.parse(line.value) as T);
  };
  const hello = await next<{ torch: string }>();
  if (hello === undefined) return undefined;
  const ask = async <T>(request: string): Promise<T> => {
    child.stdin!.write(`${request}\n`);
    const answer = await next<T>();
    if (answer === undefined) throw new Error(`PyTorch ended at "${request}"`);
    return answer;
  };
  return {
    run: (name, batch, steps) => ask(`${name} ${batch} ${steps}`),
    memory: () => ask('memory'),
    end: () => child.stdin!.end(),
  };
}
