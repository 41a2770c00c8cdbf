import { create } from '@bufbuild/protobuf';
import { FormFindingSchema, type FormFinding } from '@commonweight/proto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FormTally } from './form-tally.ts';

const finding = (changes: object = {}): FormFinding =>
  create(FormFindingSchema, {
    form: 'int8-dynamic',
    examples: 100n,
    labelled: true,
    float32Right: 90n,
    right: 89n,
    rows: 100n,
    agreeing: 98n,
    difference: 0.01,
    ...changes,
  });
const data = (agents: number): string => `${agents} agents`;
const forms = ['int8-dynamic'];

test('the accuracy is that of all examples together, whatever the order in which agents answer', () => {
  const answers = fc.record({
    examples: fc.integer({ min: 1, max: 1000 }),
    of: fc.tuple(fc.float({ min: 0, max: 1, noNaN: true }), fc.float({ min: 0, max: 1, noNaN: true })),
  });
  fc.assert(
    fc.property(fc.array(answers, { minLength: 2, maxLength: 16 }), (agents) => {
      const counts = agents.map(({ examples, of }) => ({
        examples,
        float32Right: Math.floor(examples * of[0]),
        right: Math.floor(examples * of[1]),
      }));
      const tally = new FormTally(forms, 1000);
      for (const { examples, float32Right, right } of counts) {
        tally.add([finding({ examples: BigInt(examples), float32Right: BigInt(float32Right), right: BigInt(right) })]);
      }
      const sum = (of: 'examples' | 'float32Right' | 'right'): number =>
        counts.reduce((total, each) => total + each[of], 0);
      const found = tally.measurement('int8-dynamic', 2, data)!;
      expect([found.examples, found.accuracy!.float32, found.accuracy!.variant]).toEqual([
        BigInt(sum('examples')),
        sum('float32Right') / sum('examples'),
        sum('right') / sum('examples'),
      ]);
      expect(found.data).toBe(`${agents.length} agents`);
    }),
  );
});

test('the largest difference of any agent counts, and rows agree by how many examples each agent has', () => {
  const tally = new FormTally(forms, 1000);
  tally.add([finding({ examples: 300n, rows: 300n, agreeing: 300n, difference: 0.02 })]);
  // Its examples are sequences: ten rows each, and it weighs no more for that.
  tally.add([finding({ examples: 100n, rows: 1000n, agreeing: 500n, difference: 0.04 })]);
  expect(tally.measurement('int8-dynamic', 2, data)).toMatchObject({ difference: 0.04, agreement: 350 / 400 });
  tally.add([finding({ difference: NaN })]);
  expect(tally.measurement('int8-dynamic', 2, data)!.difference).toBeNaN();
});

test('where only some have labels, those alone are counted if they are enough, and else outputs of all', () => {
  const unlabelled = finding({ labelled: false, float32Right: 0n, right: 0n, agreeing: 50n });
  const tally = new FormTally(forms, 1000);
  for (const each of [finding(), finding(), unlabelled]) tally.add([each]);
  expect(tally.measurement('int8-dynamic', 2, data)).toMatchObject({
    data: '2 agents',
    examples: 200n,
    accuracy: { float32: 0.9 },
    agreement: 0.98,
  });
  // Of one agent alone the others could say nothing.
  const found = tally.measurement('int8-dynamic', 3, data)!;
  expect([found.data, found.examples, found.accuracy]).toEqual(['3 agents', 300n, undefined]);
});

test('a form that agents cannot run is not measured, and the others are', () => {
  const tally = new FormTally(['int8-dynamic', 'int8-blocks'], 1000);
  const failed = finding({ form: 'int8-blocks', failure: 'no such operator' });
  for (let agent = 0; agent < 3; agent++) tally.add([failed, finding()]);
  expect(tally.measurement('int8-dynamic', 3, data)!.examples).toBe(300n);
  expect([tally.measurement('int8-blocks', 3, data), tally.failure('int8-blocks')]).toEqual([
    undefined,
    'no such operator',
  ]);
});

test.each<[string, object]>([
  ['it ran int8-dynamic on 0 examples', { examples: 0n }],
  ['it ran int8-dynamic on 1001 examples', { examples: 1001n }],
  ['it got more right with int8-dynamic than it ran', { right: 101n }],
  ['it got more right with int8-dynamic than it ran', { float32Right: 101n }],
  ['it got some right with int8-dynamic and has no labels', { labelled: false }],
  ['more rows of int8-dynamic agree than there are', { agreeing: 101n }],
  ['outputs of int8-dynamic differ by less than nothing', { difference: -1 }],
  ['it speaks of int3, and was asked for int8-dynamic', { form: 'int3' }],
  ['no memory', { failure: 'no memory' }],
])('a report is refused whole: %s', (words, changes) => {
  const tally = new FormTally(forms, 1000);
  expect(() => tally.add([finding(changes)])).toThrow(words);
  expect(() => tally.add([])).toThrow('it speaks of no form');
  expect(() => tally.add([finding(), finding()])).toThrow('it speaks of int8-dynamic, int8-dynamic');
  expect(tally.agents).toBe(0);
});
