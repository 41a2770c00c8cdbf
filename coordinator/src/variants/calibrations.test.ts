import { create } from '@bufbuild/protobuf';
import { calibrationMethods, Calibrator, type HistogramState } from '@commonweight/core';
import {
  CALIBRATION_REPORT_BYTES_MAX,
  CalibrationReportSchema,
  histogramsToWire,
  SignedManifestSchema,
  type CalibrationReport,
  type CalibrationRequest,
} from '@commonweight/proto';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ToldClock } from '../../../test/support/told-clock.ts';
import { Calibrations, type Calibration } from './calibrations.ts';
import { Inquiries } from './inquiries.ts';

/** A coordinator's part of it, with a clock that goes when it is told to. */
let free: string[] = [];
let asked: { agent: string; request: CalibrationRequest }[] = [];
let lines: string[] = [];
let clock = new ToldClock();
let inquiries: Inquiries;
let calibrations: Calibrations;

beforeEach(() => {
  [free, asked, lines, clock] = [[], [], [], new ToldClock()];
  inquiries = new Inquiries({
    clock,
    send: (agent, { message }) => {
      if (message.case === 'calibrationRequest') asked.push({ agent, request: message.value });
    },
  });
  calibrations = new Calibrations({
    inquiries,
    log: (line) => lines.push(line),
    isTrained: (model) => model === 'm',
    agentsFor: (_, only) => (only === undefined ? free : [only]),
  });
});
afterEach(() => inquiries.close());

const wish = {
  model: 'm',
  version: 4,
  release: create(SignedManifestSchema, {}),
  values: ['in', 'hidden'],
  agentsMin: 2,
  method: 'minmax' as const,
  waitMs: 60_000,
};
const gather = (changes: object = {}, signal = new AbortController().signal): Promise<Calibration> =>
  calibrations.gather({ ...wish, ...changes }, signal);

function statesOf(inputs: readonly number[], hidden: readonly number[] = inputs): Map<string, HistogramState> {
  const calibrator = new Calibrator(wish.values);
  calibrator.add(
    new Map([
      ['in', Float32Array.from(inputs)],
      ['hidden', Float32Array.from(hidden)],
    ]),
  );
  return calibrator.states(asked[0]?.request.binsMax ?? 512);
}

const reportOf = (states: ReadonlyMap<string, HistogramState>, changes: object = {}): CalibrationReport =>
  create(CalibrationReportSchema, {
    requestId: asked[0]!.request.requestId,
    examples: 10n,
    values: histogramsToWire(states),
    ...changes,
  });
const hear = (agent: string, value: CalibrationReport): void =>
  inquiries.receive(agent, { case: 'calibrationReport', value });

/** What has come of it by now. */
async function outcomeOf(gathered: Promise<Calibration>): Promise<Calibration | 'open'> {
  await new Promise((resolve) => setImmediate(resolve));
  return Promise.race([gathered, Promise.resolve('open' as const)]);
}

test.each(calibrationMethods)(
  'what agents report adds up to the ranges that %s gives of all their examples together',
  async (method) => {
    const numbers = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true, min: -1000, max: 1000 }), {
      minLength: 1,
      maxLength: 30,
    });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(numbers, numbers), { minLength: 2, maxLength: 5 }), async (ofAgents) => {
        asked = [];
        free = ofAgents.map((_, index) => `a${index}`);
        const gathered = gather({ method });
        ofAgents.forEach(([inputs, hidden], index) => hear(`a${index}`, reportOf(statesOf(inputs, hidden))));
        const found = await gathered;
        const central = new Calibrator(wish.values);
        central.add(
          new Map([
            ['in', Float32Array.from(ofAgents.flatMap(([inputs]) => inputs))],
            ['hidden', Float32Array.from(ofAgents.flatMap(([, hidden]) => hidden))],
          ]),
        );
        const [agents, examples] = [ofAgents.length, 10 * ofAgents.length];
        expect(found).toEqual({ ranges: central.ranges({ method }), method, agents, examples });
      }),
      { numRuns: 30 },
    );
  },
);

test('one agent fewer than it takes is nothing, and the error says how many answered', async () => {
  free = ['a', 'b'];
  const gathered = gather();
  gathered.catch(() => {});
  hear('a', reportOf(statesOf([1, 2])));
  clock.goTo(59_000);
  expect(await outcomeOf(gathered)).toBe('open');
  clock.goTo(60_000);
  await expect(gathered).rejects.toMatchObject({
    code: 'resource-exhausted',
    message:
      '1 of the 2 agents that it takes calibrated version 4 of m within 60 s: try again while more of them are connected and free',
  });
  // What comes later belongs to nothing.
  hear('b', reportOf(statesOf([1, 2])));
});

test('those that are slow are waited for a while when enough have answered, and those that come are asked', async () => {
  free = ['a', 'b'];
  const gathered = gather();
  free = ['a', 'b', 'c'];
  inquiries.agentReady('c');
  expect(asked.map(({ agent }) => agent)).toEqual(['a', 'b', 'c']);
  expect(asked[0]!.request).toMatchObject({ examplesMax: 256, binsMax: 512, release: wish.release });
  hear('a', reportOf(statesOf([1])));
  hear('b', reportOf(statesOf([2])));
  clock.goTo(9_000);
  expect(await outcomeOf(gathered)).toBe('open');
  clock.goTo(10_000);
  expect((await gathered).agents).toBe(2);
});

test('no more agents are asked than it takes, and one that cannot is replaced', async () => {
  free = Array.from({ length: 40 }, (_, index) => `a${index}`);
  const gathered = gather({ agentsMin: 16 });
  expect(asked).toHaveLength(16);
  hear('a0', reportOf(new Map(), { failure: 'no memory' }));
  inquiries.agentReady('a39');
  expect(asked).toHaveLength(17);
  expect(lines).toEqual(['variants of m: a0 did not calibrate version 4: no memory']);
  for (const { agent } of asked.slice(1)) hear(agent, reportOf(statesOf([1])));
  expect((await gathered).agents).toBe(16);
});

const tampered = (change: Partial<HistogramState>): Map<string, HistogramState> =>
  new Map([...statesOf([1, 2])].map(([name, state]) => [name, { ...state, ...change }]));

test.each<[string, () => CalibrationReport]>([
  ["value 'hidden' is missing", () => reportOf(new Map([['in', statesOf([1]).get('in')!]]))],
  ["value 'other' was not asked for", () => reportOf(new Map([['other', statesOf([1]).get('in')!]]))],
  ['it ran 0 examples', () => reportOf(statesOf([1]), { examples: 0n })],
  ['it ran 257 examples', () => reportOf(statesOf([1]), { examples: 257n })],
  ['its report has', () => reportOf(new Map([['x'.repeat(CALIBRATION_REPORT_BYTES_MAX), statesOf([1]).get('in')!]]))],
  ['that is no histogram: it goes from NaN', () => reportOf(tampered({ min: NaN }))],
  ['that is no histogram: its least', () => reportOf(tampered({ max: 1e30 }))],
  ["value 'in' has 2049 bins", () => reportOf(tampered({ counts: new Float64Array(2049) }))],
  [
    "value 'in' comes twice",
    () => reportOf(statesOf([1]), { values: [0, 1].map(() => histogramsToWire(statesOf([1]))[0]!) }),
  ],
])('a report is refused whole: %s', async (words, report) => {
  free = ['a', 'b', 'c'];
  const gathered = gather();
  hear('a', report());
  expect(lines.join()).toContain(words);
  // It does not count, and a second one of the same agent is not heard.
  hear('a', reportOf(statesOf([1e6])));
  hear('b', reportOf(statesOf([1])));
  expect(await outcomeOf(gathered)).toBe('open');
  hear('c', reportOf(statesOf([2])));
  const { ranges, agents } = await gathered;
  expect([agents, ranges.get('in')!.max]).toEqual([2, 2]);
});

test('nobody is heard who was not asked, or twice, or for another request', async () => {
  free = ['a'];
  const gathered = gather();
  hear('stranger', reportOf(statesOf([1])));
  hear('a', reportOf(statesOf([1]), { requestId: new Uint8Array(16) }));
  hear('a', reportOf(statesOf([1])));
  hear('a', reportOf(statesOf([1])));
  expect(await outcomeOf(gathered)).toBe('open');
  expect(lines).toEqual([]);
  free = ['a', 'b'];
  inquiries.agentReady('b');
  hear('b', reportOf(statesOf([1])));
  expect((await gathered).agents).toBe(2);
});

test('a model that no task trains is told at once, and an end ends it', async () => {
  await expect(gather({ model: 'other' })).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringContaining('no agent has data for other') as string,
  });
  const closing = new AbortController();
  const gathered = gather({}, closing.signal);
  closing.abort(new Error('over'));
  await expect(gathered).rejects.toThrow('over');
  inquiries.agentReady('a');
  expect(asked).toEqual([]);
});

test('an agent is asked one thing at a time, and the next when it has answered', async () => {
  free = ['a', 'b'];
  const [first, second] = [gather(), gather({ version: 5 })];
  expect(asked.map(({ agent }) => agent)).toEqual(['a', 'b']);
  hear('a', reportOf(statesOf([1])));
  hear('b', reportOf(statesOf([2])));
  expect((await first).agents).toBe(2);
  expect(asked.slice(2).map(({ agent }) => agent)).toEqual(['a', 'b']);
  const { requestId } = asked[2]!.request;
  for (const agent of free) hear(agent, reportOf(statesOf([3]), { requestId }));
  expect((await second).ranges.get('in')!.max).toBe(3);
});
