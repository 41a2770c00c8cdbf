import fc from 'fast-check';
import { expect, test } from 'vitest';
import { tallyOf, type Committed, type Ending, type History } from './ledger.ts';

/** A run as it should be: some versions, each of some updates; some updates refused, some waiting. */
const good = fc
  .record({
    sizes: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 2, maxLength: 6 }),
    rejected: fc.integer({ min: 1, max: 3 }),
    waiting: fc.integer({ min: 0, max: 3 }),
    epochs: fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 7, maxLength: 7 }),
    served: fc.uniqueArray(fc.integer({ min: 1, max: 7 })),
  })
  .map(({ sizes, rejected, waiting, epochs, served }): History => {
    let count = 0;
    const ids = (size: number): string[] => Array.from({ length: size }, () => `u${(count += 1)}`);
    let epoch = 1;
    const versions: Committed[] = [0, ...sizes].map((size, at) => ({
      model: 'm',
      version: at + 1,
      epoch: (epoch += epochs[at] ?? 0),
      digest: `d${at + 1}`,
      parentDigest: at === 0 ? '' : `d${at}`,
      updates: ids(size),
    }));
    const receipts = new Map<string, Ending>(
      versions.flatMap(({ version, updates }) => updates.map((id): [string, Ending] => [id, version])),
    );
    for (const id of ids(rejected)) receipts.set(id, 'rejected');
    const left = ids(waiting);
    return {
      versions,
      receipts,
      outboxed: new Set([...receipts.keys(), ...left]),
      waiting: new Set(left),
      told: [...receipts].map(([updateId, ending]) => ({ updateId, ending })),
      served: new Map([['app', served.toSorted((a, b) => a - b)]]),
    };
  });

test('a good history breaks nothing', () => {
  fc.assert(
    fc.property(good, (history) => {
      const { violations, ...counts } = tallyOf(history);
      expect(violations).toEqual([]);
      expect(counts).toEqual({
        updates: history.outboxed.size,
        lost: 0,
        doubled: 0,
        versions: history.versions.length,
        forks: 0,
      });
    }),
  );
});

const changed = (history: History, at: number, change: Partial<Committed>): Committed[] =>
  history.versions.map((version, i) => (i === at ? { ...version, ...change } : version));
const last = ({ versions }: History): number => versions.length - 1;

/** What each defect does to a good history, and the invariant that it breaks. */
const defects: Record<string, { breaks: string; plant(history: History): History }> = {
  'an update is counted in two versions': {
    breaks: 'I1',
    plant: (history) => {
      const updates = [...history.versions.at(-1)!.updates, history.versions[1]!.updates[0]!];
      return { ...history, versions: changed(history, last(history), { updates }) };
    },
  },
  'an update is counted twice in one version': {
    breaks: 'I1',
    plant: (history) => {
      const { updates } = history.versions[1]!;
      return { ...history, versions: changed(history, 1, { updates: [...updates, updates[0]!] }) };
    },
  },
  'an update is nowhere': {
    breaks: 'I1',
    plant: (history) => ({ ...history, outboxed: new Set([...history.outboxed, 'lost']) }),
  },
  'a committed update fell out of its list': {
    breaks: 'I1',
    plant: (history) => ({ ...history, versions: changed(history, 1, { updates: [] }) }),
  },
  'an update is rejected and counted': {
    breaks: 'I1',
    plant: (history) => ({
      ...history,
      receipts: new Map([...history.receipts, [history.versions[1]!.updates[0]!, 'rejected' as const]]),
    }),
  },
  'an agent was told another version': {
    breaks: 'I1',
    plant: (history) => ({
      ...history,
      told: [{ updateId: history.versions[1]!.updates[0]!, ending: history.versions.length }],
    }),
  },
  'a version is gone': {
    breaks: 'I2',
    plant: (history) => ({ ...history, versions: history.versions.filter((_, at) => at !== 1) }),
  },
  'there are two of a version': {
    breaks: 'I2',
    plant: (history) => {
      const fork = { ...history.versions.at(-1)!, digest: 'fork', updates: [] };
      return { ...history, versions: [...history.versions, fork] };
    },
  },
  'two versions have one parent': {
    breaks: 'I2',
    plant: (history) => {
      const { parentDigest } = history.versions.at(-2)!;
      return { ...history, versions: changed(history, last(history), { parentDigest }) };
    },
  },
  'an older epoch commits after a newer': {
    breaks: 'I5',
    plant: (history) => ({ ...history, versions: changed(history, last(history), { epoch: 0 }) }),
  },
  'an app goes back': {
    breaks: 'I4',
    plant: (history) => ({ ...history, served: new Map([['app', [3, 5, 4]]]) }),
  },
};

test.each(Object.entries(defects))('the ledger goes red when %s', (_, { breaks, plant }) => {
  fc.assert(
    fc.property(good, (history) => {
      const { violations } = tallyOf(plant(history));
      expect(violations.map((text) => text.split(':')[0])).toContain(breaks);
    }),
  );
});
