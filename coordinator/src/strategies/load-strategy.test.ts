import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ConfigError, strategyFrom } from '@commonweight/core';
import { afterEach, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { closeCoordinators, newest, tenAgents, weightsOf } from '../../../test/support/ten-agents.ts';
import { updateOf } from '../../../test/support/training.ts';
import { loadStrategy } from './load-strategy.ts';

afterEach(closeCoordinators);

const EXAMPLE = resolve(import.meta.dirname, '../../../examples/server-nesterov.ts');
const file = (text: string): string => {
  const path = join(temporaryFolder('strategy'), 'mine.ts');
  writeFileSync(path, text);
  return path;
};
/** fedAvg in few words, with some of it replaced. */
const module = (name: string, more = ''): string => `export default {
  name: '${name}',
  options: ['rate'],
  make: ({ rate = 1 }: { rate?: number }) => ({
    instruct: (plan: unknown) => plan,
    weigh: () => 1,
    improve: (base: Float32Array, delta: Float32Array) => ({
      weights: base.map((value, i) => value + rate * (delta[i] ?? 0)),
      memory: [],
    }),
    ${more}
  }),
};`;

describe("a strategy of a user's own", () => {
  test('the example: Nesterov momentum on the server, twice a delta of 1', async () => {
    const { name, label } = await loadStrategy(EXAMPLE);
    expect(name).toBe('serverNesterov');
    expect(label).toMatch(/^serverNesterov@[0-9a-f]{12}$/);
    const { improve } = strategyFrom({ name, serverMomentum: 0.5 });
    const round = { updates: 1, weight: 1, vectors: [], numbers: [] };
    const first = improve(Float32Array.of(0), Float32Array.of(1), [], round);
    const second = improve(first.weights, Float32Array.of(1), first.memory, round);
    // 1 + .5·1, then v = 1.5: 1 + .5·1.5.
    expect([first.weights[0], second.weights[0]]).toEqual([1.5, 3.25]);
    // Loading it again is no other one.
    expect((await loadStrategy(EXAMPLE)).label).toBe(label);
  });

  test('makes versions whose manifests name it with the digest of its file', async () => {
    const { name, label } = await loadStrategy(EXAMPLE);
    const { service, agents, grid } = await tenAgents({ strategy: { name } });
    for (const agent of agents) await agent.submit(updateOf(agent.id, grid));
    expect(await newest(service)).toMatchObject({ version: 2n, strategy: label });
  });

  test('may have a rule, which the thread of rules loads as well', async () => {
    const rule = `robust: {
      updatesMin: 3,
      updatesMax: 100,
      rule: (updates: { length: number; read(update: number, start: number, end: number): Float32Array }) => ({
        delta: updates.read(1, 0, updates.length).map(() => 0.25),
        kept: [1],
      }),
    },`;
    const { name } = await loadStrategy(file(module('second', rule)));
    const { service, agents, grid } = await tenAgents({ strategy: { name, rate: 2 } });
    const before = await weightsOf(service);
    for (const agent of agents) await agent.submit(updateOf(agent.id, grid));
    expect(await newest(service)).toMatchObject({ version: 2n, totalWeight: 1n });
    expect(await weightsOf(service)).toEqual(before.map((weight) => weight + 0.5));
  });

  test.each([
    ['', /the default export is no object: write `export default/],
    ['export default { name: "a b" }', /name is "a b": give letters/],
    [module('fedAvg'), /there is a strategy "fedAvg" already/],
    ['export default { name: "mine", options: [1] }', /options must be the list of the options' names/],
    ['export default { name: "mine", options: [] }', /make must be the function/],
    ['export default { name: "mine", options: [], make: () => ({}) }', /has no function instruct: begin with/],
    [module('mine', 'weigh: () => 0.5,'), /weigh gave 0.5 for 1 examples/],
    [
      module('mine', 'improve: () => ({ weights: new Float32Array(1), memory: [] }),'),
      /the weights that improve gave must be a Float32Array of 4 values/,
    ],
    [module('mine', 'improve: (b: Float32Array) => ({ weights: b.map(() => NaN), memory: [] }),'), /hold NaN at 0/],
    [module('mine', 'improve: (weights: Float32Array) => ({ weights }),'), /improve gave no memory/],
    [module('mine', 'robust: { rule: () => ({}), updatesMin: 0, updatesMax: 9 },'), /must be whole numbers from 1 on/],
    [
      module('mine', 'robust: { rule: () => ({}), updatesMin: 1, updatesMax: 9 },'),
      /the delta that robust.rule gave must be/,
    ],
    ['export default {', /mine.ts: /],
    ['import "./not-there.ts";', /not-there/],
  ])('is refused by what is wrong: %#', async (text, message) => {
    const path = file(text);
    await expect(loadStrategy(path)).rejects.toThrow(ConfigError);
    await expect(loadStrategy(path)).rejects.toThrow(message);
    await expect(loadStrategy(path)).rejects.toThrow(path);
  });

  test('cannot make a version that is none, whatever it does later', async () => {
    const later = `improve: (base: Float32Array, delta: Float32Array) => ({
      weights: base.length === 4 ? base : new Float32Array(2),
      memory: [],
    }),`;
    const { name } = await loadStrategy(file(module('later', later)));
    const { improve } = strategyFrom({ name });
    expect(() =>
      improve(new Float32Array(7), new Float32Array(7), [], { updates: 1, weight: 1, vectors: [], numbers: [] }),
    ).toThrow(/must be a Float32Array of 7 values/);
  });

  test('that is not there is named with its path', async () => {
    await expect(loadStrategy('./nowhere/mine.ts')).rejects.toThrow(/nowhere\/mine.ts: no strategy can be read there/);
  });
});
