import { create } from '@bufbuild/protobuf';
import { HelloSchema } from '@commonweight/proto';
import { expect, test } from 'vitest';
import { parseWhere, unmet, type Where } from './where.ts';

const hello = create(HelloSchema, {
  agentId: 'a',
  software: '0.2.1',
  examples: 100n,
  labels: { site: 'north', tier: 'gold' },
  capabilities: { engine: 'cpu', memoryMib: 2048, cores: 4, platform: 'linux-x64' },
  conditions: ['charging', 'unmetered'],
});

test.each<[object, string | undefined]>([
  [{}, undefined],
  [{ labels: { site: 'north' } }, undefined],
  [{ labels: { site: ['south', 'north'], tier: 'gold' } }, undefined],
  [{ labels: { site: 'south' } }, 'label site'],
  [{ labels: { country: 'x' } }, 'label country'],
  [{ engine: ['cuda', 'cpu'] }, undefined],
  [{ engine: 'cuda' }, 'engine'],
  [{ platform: 'win32-x64' }, 'platform'],
  [{ softwareMin: '0.2' }, undefined],
  [{ softwareMin: '0.2.1' }, undefined],
  [{ softwareMin: '0.10' }, 'software'],
  [{ softwareMin: '0.2.1.1' }, 'software'],
  [{ memoryMiBMin: 2048 }, undefined],
  [{ memoryMiBMin: 2049 }, 'memory'],
  [{ coresMin: 5 }, 'cores'],
  [{ examplesMin: 100 }, undefined],
  [{ examplesMin: 101 }, 'examples'],
  [{ conditions: ['charging'] }, undefined],
  [{ conditions: ['charging', 'idle'] }, 'condition idle'],
  // What comes first is what is said.
  [{ labels: { site: 'south' }, memoryMiBMin: 9999 }, 'label site'],
])('%j of an agent lacks %s', (where, lack) => {
  expect(unmet(parseWhere(where), hello)).toBe(lack);
});

test('an agent of a version before tells nothing of itself, and qualifies only where nothing is asked', () => {
  const old = create(HelloSchema, { agentId: 'a', software: '0.1.0', examples: 5n });
  expect(unmet({}, old)).toBeUndefined();
  const asked: Where[] = [{ memoryMiBMin: 1 }, { engine: ['cpu'] }, { conditions: ['idle'] }, { labels: { a: ['b'] } }];
  for (const where of asked) expect(unmet(where, old)).toBeDefined();
  expect(unmet({ softwareMin: '0.1' }, create(HelloSchema, { software: 'unknown' }))).toBe('software');
});

test.each<[unknown, RegExp]>([
  ['x', /where must be an object/],
  [{ site: 'a' }, /where.site is not known: the keys are labels, engine/],
  [{ labels: {} }, /where.labels must have 1 to 16 labels/],
  [{ labels: { 'a b': 'c' } }, /"a b" is no name of a label/],
  [{ labels: { a: 5 } }, /where.labels.a must be a text/],
  [{ engine: [] }, /where.engine must be a text/],
  [{ softwareMin: 'new' }, /where.softwareMin must be a version/],
  [{ memoryMiBMin: 0 }, /where.memoryMiBMin must be a whole number from 1/],
  [{ conditions: ['on fire'] }, /"on fire" is no name of a condition/],
])('%j is refused by its key', (wrong, why) => {
  expect(() => parseWhere(wrong)).toThrow(why);
});
