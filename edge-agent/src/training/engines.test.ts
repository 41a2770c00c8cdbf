import { mlp, parsePlan, splitModel } from '@commonweight/core';
import { expect, test } from 'vitest';
import { engineNames, isBuiltIn, probeEngine } from './engines.ts';
import { Trainer } from './trainer.ts';

const missing = engineNames.find((engine) => !isBuiltIn(engine))!;

test('the CPU trains a small model, and an engine that is not there does not', async () => {
  const report = await probeEngine({ engine: 'cpu', threads: 1 });
  expect(report).toEqual({ engine: 'cpu', works: true, stepMs: expect.any(Number) as number });
  expect(await probeEngine({ engine: missing, threads: 1 })).toEqual({
    engine: missing,
    works: false,
    why: expect.stringMatching(/\w/) as string,
  });
});

test('an engine that does not train makes way for the CPU, and that is told', async () => {
  const warnings: string[] = [];
  const on = { engine: missing, threads: 1 };
  const { trainer } = await Trainer.open('mnist?partition=0/50', on, (text) => void warnings.push(text));
  try {
    expect(warnings).toEqual([expect.stringContaining(`${missing} does not train here (`) as string]);
    const { graph, weights } = splitModel(mlp({ inputs: 784, hidden: [8], outputs: 10, seed: 1 }));
    const optimizer = { name: 'sgd', learningRate: 0.1 };
    const plan = parsePlan({ loss: 'cross-entropy', optimizer, epochs: 1, batchSize: 10 });
    expect((await trainer.train({ graph, weights, plan, seed: 1n }, 60_000)).steps).toBeGreaterThan(0);
  } finally {
    await trainer.close();
  }
});
