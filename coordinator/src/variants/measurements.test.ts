import { create } from '@bufbuild/protobuf';
import {
  FormFindingSchema,
  MeasurementReportSchema,
  SignedManifestSchema,
  SignedVariantListSchema,
  VariantSchema,
  type MeasurementRequest,
} from '@commonweight/proto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ToldClock } from '../../../test/support/told-clock.ts';
import { Inquiries } from './inquiries.ts';
import { Measurements, type FormMeasured } from './measurements.ts';

/** A coordinator's part of it, with a clock that goes when it is told to. */
let free: string[] = [];
let judges: string[] = [];
let asked: { agent: string; request: MeasurementRequest }[] = [];
let lines: string[] = [];
let late: string[] = [];
let isOvertaken = false;
let clock = new ToldClock();
let inquiries: Inquiries;
let measurements: Measurements;

beforeEach(() => {
  [free, judges, asked, lines, late, isOvertaken] = [[], [], [], [], [], false];
  clock = new ToldClock();
  inquiries = new Inquiries({
    clock,
    send: (agent, { message }) => {
      if (message.case === 'measurementRequest') asked.push({ agent, request: message.value });
    },
  });
  const among = (agents: readonly string[], only?: string): readonly string[] =>
    agents.filter((agent) => only === undefined || agent === only);
  measurements = new Measurements({
    inquiries,
    log: (line) => lines.push(line),
    evaluatorsFor: (_, only) => among(judges, only),
    agentsFor: (_, only) => among(free, only),
    examplesOf: () => ({ holdOut: 0.2, classes: true }),
  });
});
afterEach(() => inquiries.close());

const digest = Uint8Array.of(1);
const wish = {
  model: 'm',
  version: 4,
  release: create(SignedManifestSchema, {}),
  variants: create(SignedVariantListSchema, {}),
  forms: [create(VariantSchema, { name: 'int8-dynamic', digest })],
  agentsMin: 2,
  isOvertaken: () => isOvertaken,
  onLate: (why: string) => void late.push(why),
};
const gather = (signal = new AbortController().signal): Promise<FormMeasured[]> => measurements.gather(wish, signal);

const wasAsked = (): string[] => asked.map(({ agent }) => agent);
const atMs = (ms: number): void => clock.goTo(ms);

function hear(agent: string, changes: object = {}): void {
  const counts = { form: 'int8-dynamic', examples: 100n, labelled: true, float32Right: 90n, right: 88n, rows: 100n };
  const forms = [create(FormFindingSchema, { ...counts, agreeing: 97n, difference: 0.01, ...changes })];
  const { requestId } = asked.findLast((one) => one.agent === agent)!.request;
  inquiries.receive(agent, { case: 'measurementReport', value: create(MeasurementReportSchema, { requestId, forms }) });
}

/** What has come of it by now. */
async function outcomeOf(gathered: Promise<FormMeasured[]>): Promise<FormMeasured[] | 'open'> {
  await new Promise((resolve) => setImmediate(resolve));
  return Promise.race([gathered, Promise.resolve('open' as const)]);
}

test('what agents found adds up, and says of how many of them', async () => {
  free = ['a', 'b', 'c'];
  const gathered = gather();
  expect(asked[0]!.request).toMatchObject({ forms: ['int8-dynamic'], examplesMax: 1000, holdOut: 0.2, classes: true });
  hear('a');
  hear('b', { examples: 200n, float32Right: 150n, right: 152n });
  expect(await outcomeOf(gathered)).toBe('open');
  hear('c');
  expect(await gathered).toMatchObject([
    {
      form: 'int8-dynamic',
      digest,
      measurement: {
        data: "3 agents' held-out data",
        examples: 400n,
        accuracy: { float32: 330 / 400, variant: 328 / 400 },
      },
    },
  ]);
});

test('an evaluator that is free is asked alone, may have more examples, and is enough', async () => {
  [free, judges] = [['a', 'b'], ['judge']];
  const gathered = gather();
  expect(wasAsked()).toEqual(['judge']);
  expect(asked[0]!.request.examplesMax).toBe(10_000);
  inquiries.agentReady('a');
  expect(wasAsked()).toEqual(['judge']);
  hear('judge', { examples: 5000n, rows: 5000n });
  expect(await gathered).toMatchObject([{ measurement: { data: "1 evaluator's data", examples: 5000n } }]);
});

test('where the evaluator fails, agents are asked in its place', async () => {
  [free, judges] = [['a', 'b'], ['judge']];
  const gathered = gather();
  hear('judge', { failure: 'no memory' });
  expect(lines).toEqual(['variants of m: judge did not measure version 4: no memory']);
  expect(wasAsked()).toEqual(['judge', 'a', 'b']);
  hear('a');
  hear('b', { examples: 1001n });
  expect(lines[1]).toBe('variants of m: b did not measure version 4: it ran int8-dynamic on 1001 examples');
  expect(await outcomeOf(gathered)).toBe('open');
  free = ['c'];
  inquiries.agentReady('c');
  hear('c');
  expect(await gathered).toMatchObject([{ measurement: { data: "2 agents' held-out data", examples: 200n } }]);
});

test('too few within a minute is said once, and agents that come later are asked all the same', async () => {
  free = ['a'];
  const gathered = gather();
  hear('a');
  atMs(59_000);
  expect(late).toEqual([]);
  atMs(60_000);
  atMs(120_000);
  const words = 'not measured yet: 1 of the 2 agents that it takes measured it within 60 s, and no evaluator did';
  expect(late).toEqual([words]);
  free = ['b'];
  inquiries.agentReady('b');
  hear('b');
  expect(await gathered).toMatchObject([{ measurement: { examples: 200n } }]);
});

test.each([
  ['something else is to be measured', 60_000, true],
  ['an hour is over', 3_600_000, false],
])('a version is given up once %s', async (_, ms, overtaken) => {
  const gathered = gather();
  gathered.catch(() => {});
  isOvertaken = overtaken;
  atMs(ms - 1);
  expect(await outcomeOf(gathered)).toBe('open');
  atMs(ms);
  await expect(gathered).rejects.toMatchObject({ code: 'resource-exhausted' });
});

test('an agent that was lost with what it was asked is asked again', async () => {
  free = ['a', 'b'];
  const gathered = gather();
  hear('b');
  atMs(179_000);
  expect(wasAsked()).toEqual(['a', 'b']);
  atMs(180_000);
  expect(wasAsked()).toEqual(['a', 'b', 'a']);
  hear('a');
  expect(await gathered).toMatchObject([{ measurement: { examples: 200n } }]);
});

test('a form that nobody can run says why', async () => {
  free = ['a', 'b'];
  const gathered = measurements.gather(
    { ...wish, forms: [...wish.forms, create(VariantSchema, { name: 'int8-blocks' })] },
    new AbortController().signal,
  );
  const blocks = { form: 'int8-blocks', failure: 'no such operator' };
  for (const agent of free) {
    const counts = { form: 'int8-dynamic', examples: 100n, labelled: true, float32Right: 9n, right: 9n };
    const forms = [counts, blocks].map((finding) => create(FormFindingSchema, finding));
    const { requestId } = asked[0]!.request;
    const value = create(MeasurementReportSchema, { requestId, forms });
    inquiries.receive(agent, { case: 'measurementReport', value });
  }
  expect(await gathered).toMatchObject([
    { measurement: { examples: 200n } },
    { form: 'int8-blocks', why: 'not measured yet: no such operator' },
  ]);
});

test('an end ends it', async () => {
  const closing = new AbortController();
  const gathered = gather(closing.signal);
  closing.abort(new Error('over'));
  await expect(gathered).rejects.toThrow('over');
});
