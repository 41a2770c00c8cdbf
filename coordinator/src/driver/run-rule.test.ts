import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import { encodings, gridFor, seeded, strategyFrom, type EncodingName } from '@commonweight/core';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { runRule, type RuleRequest } from './run-rule.ts';
import { RoundSpool } from './spool.ts';

/** So many that their ranges are read in two goes. */
const UPDATES = 900;
const LENGTH = 10_007;
const grid = gridFor({ valueMaxExponent: 3, weightMax: 1000, cohortMax: UPDATES });

/** A spooled round, in an order of ids that is not that of arrival, and the same updates decoded. */
async function spooled(encoding: EncodingName, strategy: RuleRequest['strategy']) {
  const { encode, decode } = encodings[encoding];
  const spool = new RoundSpool(join(temporaryFolder('rule'), 'a.updates'));
  const random = seeded(encoding);
  const payloads = Array.from({ length: 20 }, () => {
    const values = Float32Array.from({ length: LENGTH }, () => random.normal() * 0.1);
    return encode(values, grid, random, 0.2);
  });
  const slotOf = (update: number): number => UPDATES - 1 - update;
  for (let slot = 0; slot < UPDATES; slot++) await spool.append(String(slot), payloads[slot % 20]!);
  const { path, payloads: places } = spool.round;
  const updates = Array.from({ length: UPDATES }, (_, i) => ({
    ...places.get(String(slotOf(i)))!,
    weight: 1 + (i % 7),
  }));
  const request = { strategy, path, encoding, grid, length: LENGTH, updates, memory: [] };
  const decoded = payloads.map((payload) => decode(payload, LENGTH, grid));
  const inMemory = {
    count: UPDATES,
    length: LENGTH,
    weights: updates.map(({ weight }) => weight),
    read: (update: number, start: number, end: number) => decoded[slotOf(update) % 20]!.slice(start, end),
  };
  return { spool, request, inMemory };
}

test.each([
  { encoding: 'mxint8', strategy: { name: 'median' } },
  { encoding: 'float32', strategy: { name: 'normBound' } },
  { encoding: 'topk-mxint8', strategy: { name: 'trimmedMean', trim: 0.4 } },
  { encoding: 'topk-float32', strategy: { name: 'krum', attackers: 3 } },
] as const)(
  'what the thread reads of $encoding is what was spooled: $strategy.name',
  async ({ encoding, strategy }) => {
    const { spool, request, inMemory } = await spooled(encoding, strategy);
    let turns = 0;
    let running = true;
    const turn = (): void => {
      turns += 1;
      if (running) setImmediate(turn);
    };
    setImmediate(turn);
    const aggregate = await runRule(request);
    running = false;
    expect(aggregate).toEqual(strategyFrom(strategy).robust!.rule(inMemory, []));
    // Meanwhile the event loop went on.
    expect(turns).toBeGreaterThan(10);
    spool.clear();
    await spool.settled();
  },
);

test('rules that come at the same time and after one another are each answered, and one that fails is no harm to the next', async () => {
  const { spool, request, inMemory } = await spooled('mxint8', { name: 'median' });
  const names = ['median', 'trimmedMean', 'normBound'] as const;
  const gone = { ...request, path: `${request.path}.none` };
  for (let turn = 0; turn < 3; turn++) {
    const answers = names.map((name) => runRule({ ...request, strategy: { name } }));
    await expect(runRule(gone)).rejects.toThrow(/ENOENT/);
    const expected = names.map((name) => strategyFrom({ name }).robust!.rule(inMemory, []));
    expect(await Promise.all(answers)).toEqual(expected);
  }
  spool.clear();
  await spool.settled();
});

test('a spool that is cut short or gone fails by its reason', async () => {
  const { spool, request } = await spooled('mxint8', { name: 'median' });
  truncateSync(request.path, request.updates[0]!.offset);
  await expect(runRule(request)).rejects.toThrow(/shorter than they were written/);
  spool.clear();
  await spool.settled();
  await expect(runRule(request)).rejects.toThrow(/ENOENT/);
});
