/** Engines that crash, hang or run out of memory, in real processes. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cnn, mlp, splitModel, type ModelProto, type TrainingPlan } from '@commonweight/core';
import { afterEach, expect, test } from 'vitest';
import type { TrainingJob } from './messages.ts';
import { openTrainer } from './node-trainer.ts';
import { TrainingError, type Trainer } from './trainer.ts';

const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 0.1 },
  epochs: 1,
  batchSize: 32,
};
const small = mlp({ inputs: 784, hidden: [8], outputs: 10, seed: 1 });
const job = (changes: Partial<TrainingPlan> = {}, model: ModelProto = small): TrainingJob => ({
  ...splitModel(model),
  plan: { ...plan, ...changes },
  seed: 1n,
});
const endless = job({ epochs: 10_000 }, mlp({ inputs: 784, hidden: [200], outputs: 10, seed: 1 }));
/** A round that no training of this test is to fill. */
const ROUND_MS = 600_000;

const opened: { trainer: Trainer<string>; warnings: string[] }[] = [];
afterEach(async () => {
  for (const { trainer } of opened.splice(0)) await trainer.close();
});

/** A trainer that has done a training already, and what it warns of. */
async function running(stallMs?: number): Promise<{ trainer: Trainer<string>; warnings: string[] }> {
  const warnings: string[] = [];
  const on = {
    engine: 'ort-cpu',
    budget: { threads: 1, busy: 1 },
    ...(stallMs === undefined ? {} : { stallMs }),
  } as const;
  const { trainer } = await openTrainer('mnist?partition=0/10&seed=1', on, (text) => void warnings.push(text));
  opened.push({ trainer, warnings });
  expect((await trainer.train(job(), ROUND_MS)).engine).toBe('ort-cpu');
  return { trainer, warnings };
}

/** The training failed because of its engine, and the next engine does the one after. */
async function madeWay(
  { trainer, warnings }: { trainer: Trainer<string>; warnings: string[] },
  failing: Promise<unknown>,
  why: RegExp,
): Promise<void> {
  const error = await failing.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(TrainingError);
  expect((error as TrainingError).message).toMatch(why);
  expect((error as TrainingError).message).toMatch(/^ort-cpu failed: /);
  expect(warnings).toEqual([expect.stringMatching(/^ort-cpu failed \(.*\): ort-web trains for 10 min/) as string]);
  const next = await trainer.train(job(), ROUND_MS);
  expect(next.engine).toBe('ort-web');
  expect(next.loss).toBeLessThan(Math.log(10));
}

test('an engine whose process crashes costs one attempt, and the next engine trains', async () => {
  const one = await running();
  const failing = one.trainer.train(endless, ROUND_MS);
  process.kill(one.trainer.pid!, 'SIGSEGV');
  await madeWay(one, failing, /the training process ended \(SIGSEGV\)/);
});

test('one that is killed is told as short of memory, which it mostly is', async () => {
  const one = await running();
  const failing = one.trainer.train(endless, ROUND_MS);
  process.kill(one.trainer.pid!, 'SIGKILL');
  await madeWay(one, failing, /the training process ended \(SIGKILL: was there too little memory\?\)/);
});

test('one that hangs is ended after a while without a step', async () => {
  const one = await running(20_000);
  const failing = one.trainer.train(endless, ROUND_MS);
  process.kill(one.trainer.pid!, 'SIGSTOP');
  await madeWay(one, failing, /the training process hung: no step was done within 20 s/);
});

/** Leaves a process this much more of memory than it has. */
function limitMemory(pid: number, bytes: number): void {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const has = Number(/VmSize:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
  execFileSync('prlimit', ['--pid', String(pid), `--as=${has + bytes}`]);
}

test('one that runs out of memory says so, and the next engine trains', async () => {
  const one = await running();
  limitMemory(one.trainer.pid!, 200 * 2 ** 20);
  // The weights have room, the values of a step have not.
  const failing = one.trainer.train(job({ batchSize: 512 }, cnn({ seed: 1 })), ROUND_MS);
  // What has no room first differs: a buffer of the runtime, a thread of it (then it aborts), or the message of what came of it.
  await madeWay(
    one,
    failing,
    /failed: out of memory(: no buffer of \d+ bytes could be had)?$|was there too little memory\?/,
  );
});

test('one whose process has no room for the weights ends, and the next engine trains', async () => {
  const one = await running();
  limitMemory(one.trainer.pid!, 100 * 2 ** 20);
  const failing = one.trainer.train(
    job({}, mlp({ inputs: 784, hidden: [6000, 6000], outputs: 10, seed: 1 })),
    ROUND_MS,
  );
  await madeWay(one, failing, /was there too little memory\?/);
});

test('what is wrong with the work is no fault of the engine', async () => {
  const { trainer, warnings } = await running();
  const optimizer = { name: 'sgd', learningRate: 1e30 } as const;
  await expect(trainer.train(job({ optimizer }), ROUND_MS)).rejects.toThrow(/the loss became/);
  expect((await trainer.train(job(), ROUND_MS)).engine).toBe('ort-cpu');
  expect(warnings).toEqual([]);
});

test('an engine that does not train here makes way for the CPU before the first training, and that is told', async () => {
  const warnings: string[] = [];
  const missing = process.platform === 'win32' ? 'ort-coreml' : 'ort-dml';
  const on = { engine: missing, budget: { threads: 1, busy: 1 } } as const;
  const { trainer } = await openTrainer('mnist?partition=0/50', on, (text) => void warnings.push(text));
  opened.push({ trainer, warnings });
  expect(warnings).toEqual([expect.stringContaining(`${missing} does not train here (`) as string]);
  expect((await trainer.train(job(), ROUND_MS)).engine).toBe('ort-cpu');
});
