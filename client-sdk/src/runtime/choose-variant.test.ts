import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { contractOf, mlp, needsOf, quantizeModel, readModel, writeModel, type ModelNeeds } from '@commonweight/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { madeUpInputs } from './example-inputs.ts';
import { chooseVariant, inaccuracy, verdictOn } from './choose-variant.ts';
import { nodePlatform } from '../platform/node.ts';
import { FolderStorage } from '../platform/folder-storage.ts';
import { MemoryStorage } from '../platform/storage.ts';
import { sha256 } from '../trust/sha256.ts';
import type { Engine } from './engine.ts';
import { Engines, type EngineSource, type EngineSources } from './engines.ts';
import { ownGpuNames } from './gpu-names.ts';
import { Measurements, type Timings } from './measurements.ts';
import { nodeEngines } from './node-engines.ts';
import type { VariantOptions } from './variant.ts';

let folder: string;
let runtime: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'commonweight-variants-'));
  const engine = cpu.open({ threads: 1 });
  runtime = await engine.runtime();
  await engine.close();
});
afterAll(() => rm(folder, { recursive: true }));

const [cpu] = nodeEngines;
const device = cpu.device(1) as string;
const inMemory = (): Measurements => new Measurements(new MemoryStorage(), sha256);
const inFolder = (): Measurements => new Measurements(new FolderStorage(folder), sha256);
const openEngines = (sources: EngineSources): Engines => new Engines(sources, { threads: 1 });
const machine = { threads: 1, engines: [cpu], openEngines, makeForms: nodePlatform.makeForms } as const;

const onnx = writeModel(mlp({ inputs: 32, hidden: [64], outputs: 4, seed: 1 }));
const subject = { family: 'm', onnx, contract: contractOf(readModel(onnx)), recent: [] };
const choose = (options: VariantOptions, measurements = inMemory()) =>
  chooseVariant(subject, { ...machine, measurements, ...options });

const timings = (fp32: readonly [number, number], int8: readonly [number, number]): Timings => ({
  fp32: [
    { rows: 1, ms: fp32[0] },
    { rows: 16, ms: fp32[1] },
  ],
  'int8-dynamic': [
    { rows: 1, ms: int8[0] },
    { rows: 16, ms: int8[1] },
  ],
});

test('the form that is published serves where nothing else is asked for', async () => {
  const { name, onnx: bytes, why } = await choose({ choice: 'fp32' });
  expect({ name, bytes, why }).toEqual({ name: 'fp32', bytes: onnx, why: 'fp32 was asked for' });
});

test('int8 serves where it is asked for and keeps to the policy', async () => {
  const { name, onnx: bytes, candidates } = await choose({ choice: 'int8' });
  expect(name).toBe('int8-dynamic');
  expect(bytes.length).toBeLessThan(onnx.length / 2);
  const [plain, int8] = candidates;
  expect([plain?.bytes, int8?.bytes]).toEqual([onnx.length, bytes.length]);
  // Eight bits bring a difference, but a small one.
  expect(int8?.difference).toBeGreaterThan(0);
  expect(int8?.difference).toBeLessThan(0.05);
});

test('outputs that are further off than allowed keep float32', async () => {
  const { name, why } = await choose({ choice: 'int8', differenceMax: 0 });
  expect({ name, why }).toEqual({
    name: 'fp32',
    why: expect.stringMatching(/^outputs of int8-dynamic differ by .* and 0.0 % are allowed$/) as string,
  });
});

test('a form that takes too much memory is not taken', async () => {
  const int8 = (await choose({ choice: 'int8' })).onnx.length;
  expect(await choose({ choice: 'auto', bytesMax: int8 })).toMatchObject({
    name: 'int8-dynamic',
    why: `float32 takes ${onnx.length} of at most ${int8} bytes`,
  });
  await expect(choose({ choice: 'auto', bytesMax: int8 - 1 })).rejects.toThrow(`fp32 takes ${onnx.length} of at most`);
});

test('what was timed before decides, also after a restart', async () => {
  const key = { family: 'm', runtime, device };
  await inFolder().put(key, timings([2, 8], [1, 4]));
  expect(await choose({ choice: 'auto' }, inFolder())).toMatchObject({
    name: 'int8-dynamic',
    why: 'int8-dynamic is 2.00 times as fast with 1 row and 2.00 times as fast with 16 rows',
  });
  await inFolder().put(key, timings([2, 4], [1, 5]));
  expect(await choose({ choice: 'auto' }, inFolder())).toMatchObject({
    name: 'fp32',
    why: 'int8-dynamic is only 0.80 times as fast with 16 rows',
  });
});

test('a measurement that is damaged is made anew', async () => {
  const [file] = await readdir(join(folder, 'measured'));
  const measurements = inFolder();
  const key = { family: 'm', runtime, device };
  for (const text of [
    '{"cut',
    'null',
    '{}',
    JSON.stringify({ ...key, timings: { fp32: [], 'int8-dynamic': [{ rows: 1 }] } }),
  ]) {
    await writeFile(join(folder, 'measured', file!), text);
    expect((await measurements.get(key)) ?? {}).toEqual({});
  }
  const { candidates } = await choose({ choice: 'auto' }, measurements);
  const timed = candidates.map(({ runMs }) => runMs?.map(({ rows, ms }) => [rows, ms > 0]));
  const both = [
    [1, true],
    [16, true],
  ];
  expect(timed).toEqual([both, both]);
  expect(await measurements.get(key)).toBeDefined();
});

test('with examples, ranges are fixed by one half and outputs compared on the other', async () => {
  const recent = Array.from({ length: 64 }, (_, seed) =>
    madeUpInputs(subject.contract.inputs, { rows: 1, seed: `${seed}` }),
  );
  const measurements = inMemory();
  const key = { family: 'm', runtime, device };
  const both = {
    ...timings([2, 8], [1, 4]),
    'int8-static': [
      { rows: 1, ms: 1 },
      { rows: 16, ms: 3 },
    ],
  };
  await measurements.put(key, both);
  const parts = { ...machine, measurements, choice: 'auto', batches: true, differenceMax: 0.2 } as const;
  const { name, why, candidates } = await chooseVariant({ ...subject, recent }, parts);
  expect({ name, why }).toEqual({
    name: 'int8-static',
    why: 'int8-static is 2.00 times as fast with 1 row and 2.67 times as fast with 16 rows',
  });
  expect(candidates.map((candidate) => candidate.name)).toEqual(['fp32', 'int8-dynamic', 'int8-static']);
  expect(candidates[2]?.difference).toBeGreaterThan(0);
});

const int8 = writeModel(quantizeModel(readModel(onnx), 'dynamic-int8').model);

test('a form that is published is taken as it is, and none is made beside it', async () => {
  const published = {
    forms: [{ name: 'int8-dynamic', why: 'loses nothing', onnx: int8 } as const],
    withheld: new Map(),
  };
  const chosen = await chooseVariant(
    { ...subject, published },
    { ...machine, measurements: inMemory(), choice: 'int8' },
  );
  expect(chosen.name).toBe('int8-dynamic');
  expect(chosen.onnx).toBe(int8);
  expect(chosen.candidates).toMatchObject([
    { name: 'fp32' },
    { name: 'int8-dynamic', bytes: int8.length, published: 'loses nothing' },
  ]);
});

test('a form that is published and still differs too much here is not taken', async () => {
  const other = writeModel(quantizeModel(mlp({ inputs: 32, hidden: [64], outputs: 4, seed: 2 }), 'dynamic-int8').model);
  const published = {
    forms: [{ name: 'int8-dynamic', why: 'is of others', onnx: other } as const],
    withheld: new Map(),
  };
  expect(
    await chooseVariant({ ...subject, published }, { ...machine, measurements: inMemory(), choice: 'int8' }),
  ).toMatchObject({ name: 'fp32', why: expect.stringMatching(/^outputs of int8-dynamic differ/) as string });
});

test('a form that is withheld is not made here either', async () => {
  const published = { forms: [], withheld: new Map([['int8-dynamic', 'loses 3.00 points of accuracy']]) };
  expect(
    await chooseVariant({ ...subject, published }, { ...machine, measurements: inMemory(), choice: 'int8' }),
  ).toMatchObject({
    name: 'fp32',
    why: 'int8-dynamic is withheld: loses 3.00 points of accuracy',
    candidates: [{ name: 'fp32' }],
  });
});

const half = writeModel(quantizeModel(readModel(onnx), 'fp16').model);
const four = writeModel(quantizeModel(readModel(onnx), 'int4-blocks').model);
const published = {
  forms: [
    { name: 'int8-dynamic', why: 'loses nothing', onnx: int8 } as const,
    { name: 'int4-blocks', why: 'loses little', onnx: four } as const,
    { name: 'fp16', why: 'loses nothing', onnx: half } as const,
  ],
  withheld: new Map<string, string>(),
};

test.each([
  ['fp16', 'fp16', half],
  ['int4', 'int4-blocks', four],
  ['int8', 'int8-dynamic', int8],
] as const)('who wants %s gets what is published of it, at any speed', async (choice, name, bytes) => {
  const parts = { ...machine, measurements: inMemory(), choice, differenceMax: 0.3, agreementMin: 0.5 };
  const chosen = await chooseVariant({ ...subject, published }, parts);
  expect(chosen).toMatchObject({ name, why: `${choice} was asked for`, candidates: [{ name: 'fp32' }, { name }] });
  expect(chosen.candidates).toHaveLength(2);
  expect(chosen.onnx).toBe(bytes);
});

test('fp16 is made here where somebody asks for it, int4 never', async () => {
  expect(await choose({ choice: 'fp16' })).toMatchObject({ name: 'fp16', onnx: half, why: 'fp16 was asked for' });
  const none = await choose({ choice: 'int4' });
  expect(none).toMatchObject({ name: 'fp32', why: 'no form of int4 is published', candidates: [{ name: 'fp32' }] });
});

test.each<[string, Timings, object]>([
  [
    'taken where it is faster',
    {
      fp16: [
        { rows: 1, ms: 1 },
        { rows: 16, ms: 5 },
      ],
    },
    { name: 'fp16', engine: 'ort-cpu' },
  ],
  [
    'left where it is slower with many rows',
    {
      fp16: [
        { rows: 1, ms: 1 },
        { rows: 16, ms: 9 },
      ],
    },
    { name: 'fp32' },
  ],
  [
    'left where it is hardly faster',
    {
      fp16: [
        { rows: 1, ms: 1.95 },
        { rows: 16, ms: 7.9 },
      ],
    },
    { name: 'fp32' },
  ],
])('a published fp16 is a candidate on the CPU too, and is %s', async (_, own, chosen) => {
  const measurements = inMemory();
  await measurements.put({ family: 'm', runtime, device }, { ...timings([2, 8], [3, 9]), ...own });
  const only = { forms: published.forms.slice(2), withheld: new Map() };
  const parts = { ...machine, measurements, choice: 'auto' } as const;
  expect(await chooseVariant({ ...subject, published: only }, parts)).toMatchObject(chosen);
});

test.each([
  [
    'four bits that are further off than allowed are not taken, however small',
    { choice: 'int4', differenceMax: 1e-3 },
    /^outputs of int4-blocks differ by .* and 0.1 % are allowed$/,
  ],
  ['a form that is larger than the memory', { choice: 'fp16', bytesMax: 100 }, undefined],
] as const)('%s', async (_, options, why) => {
  const chosen = chooseVariant({ ...subject, published }, { ...machine, measurements: inMemory(), ...options });
  if (why === undefined) await expect(chosen).rejects.toThrow(`fp16 takes ${half.length} of at most 100 bytes`);
  else expect(await chosen).toMatchObject({ name: 'fp32', why: expect.stringMatching(why) as string });
});

test('a float16 form that is not published is made for engines that compute in it, and tried on no other', async () => {
  const gpu: EngineSource = { ...web, computesInHalf: true };
  const parts = { ...machine, engines: [cpu, gpu] as const, measurements: inMemory(), patience: Infinity };
  const { candidates } = await chooseVariant(subject, { ...parts, choice: 'auto' });
  expect(candidates.map(({ name, engine }) => [name, engine])).toEqual([
    ['fp32', 'ort-cpu'],
    ['int8-dynamic', 'ort-cpu'],
    ['fp32', 'ort-web'],
    ['int8-dynamic', 'ort-web'],
    ['fp16', 'ort-web'],
  ]);
  expect(candidates[4]).toMatchObject({ bytes: half.length, agreement: 1 });
  const withheld = { forms: [], withheld: new Map([['fp16', 'loses 3.00 points of accuracy']]) };
  const without = await chooseVariant({ ...subject, published: withheld }, { ...parts, choice: 'auto' });
  expect(without.candidates.map(({ name }) => name)).not.toContain('fp16');
});

test('a form is tried on engines that have what it needs, and each other says what it lacks', async () => {
  const lacks = ({ operators }: ModelNeeds): string | undefined => operators.find((name) => name.includes('NBits'));
  const loads: number[] = [];
  const bare: EngineSource = {
    ...web,
    name: 'ort-dml',
    lacks,
    open: (options) => {
      const engine = web.open(options);
      const load: Engine['load'] = (bytes) => (loads.push(bytes.length), engine.load(bytes));
      return Object.assign(Object.create(engine) as typeof engine, {
        name: 'ort-dml',
        load,
        runtime: () => engine.runtime(),
        close: () => engine.close(),
      });
    },
  };
  const needs = needsOf(readModel(four));
  const form = { name: 'int4-blocks', why: 'loses little', needs } as const;
  const parts = {
    ...machine,
    measurements: inMemory(),
    choice: 'int4',
    differenceMax: 0.3,
    agreementMin: 0.5,
  } as const;
  const offered = { forms: [{ ...form, onnx: four }], withheld: new Map<string, string>() };
  const { name, candidates } = await chooseVariant(
    { ...subject, published: offered },
    { ...parts, engines: [cpu, bare] },
  );
  expect(name).toBe('int4-blocks');
  const lack = { engine: 'ort-dml', lacks: 'com.microsoft:MatMulNBits' };
  expect(candidates).toMatchObject([
    { name: 'fp32' },
    { engine: 'ort-cpu', agreement: expect.any(Number) as number },
    lack,
  ]);
  // Only one machine has nothing else: what it could not run was not even fetched.
  const alone = { forms: [], withheld: new Map<string, string>(), unfit: [{ ...form, bytes: four.length }] };
  expect(await chooseVariant({ ...subject, published: alone }, { ...parts, engines: [bare] })).toMatchObject({
    name: 'fp32',
    why: 'int4-blocks needs com.microsoft:MatMulNBits, which ort-dml does not have',
    candidates: [{ name: 'fp32' }, { ...lack, bytes: four.length, published: 'loses little' }],
  });
  expect(loads).not.toContain(four.length);
});

test('what cannot be tried leaves float32, and says why', async () => {
  const examples = () => Promise.reject(new Error('there is no such data'));
  expect(await choose({ choice: 'auto', examples })).toMatchObject({
    name: 'fp32',
    why: 'nothing else can be tried: there is no such data',
  });
});

test('a measurement of another runtime or processor does not count', async () => {
  const measurements = inMemory();
  await measurements.put({ family: 'm', runtime: 'other', device }, timings([2, 8], [1, 4]));
  expect(await measurements.get({ family: 'm', runtime, device })).toBeUndefined();
});

test('another GPU, another driver and another version of the runtime are measured anew, and what is the same is not', async () => {
  const storage = new MemoryStorage();
  const timed = async (device: string, version: string): Promise<number> => {
    const source: EngineSource = { ...cpu, device: () => Promise.resolve(device) };
    const open = (): Engine => {
      const engines = new Engines([source], { threads: 1 });
      return {
        name: 'ort-cpu',
        runtime: () => Promise.resolve(`onnxruntime-node ${version} linux-x64`),
        load: (bytes, on) => engines.load(bytes, on),
        close: () => engines.close(),
      };
    };
    const measurements = new Measurements(storage, sha256);
    await chooseVariant(subject, { ...machine, measurements, choice: 'auto', engines: [source], openEngines: open });
    return (await storage.list('measured')).length;
  };
  expect(await timed('NVIDIA A2 (driver 535.1), x64 CPU, 1 thread', '1.30.0')).toBe(1);
  expect(await timed('NVIDIA A2 (driver 535.1), x64 CPU, 1 thread', '1.30.0')).toBe(1);
  expect(await timed('NVIDIA H200 (driver 535.1), x64 CPU, 1 thread', '1.30.0')).toBe(2);
  expect(await timed('NVIDIA H200 (driver 550.2), x64 CPU, 1 thread', '1.30.0')).toBe(3);
  expect(await timed('NVIDIA H200 (driver 550.2), x64 CPU, 1 thread', '1.31.0')).toBe(4);
  expect(await timed('unknown gpu, x64 CPU, 1 thread', '1.31.0')).toBe(5);
});

test('engines of a GPU are measured for that GPU, and those of the processor are not', async () => {
  for (const source of nodeEngines) {
    const isOfGpu = !['ort-cpu', 'ort-web'].includes(source.name);
    expect((await source.device(2)).startsWith(await ownGpuNames())).toBe(isOfGpu);
    expect(await source.device(2)).toContain('2 threads');
  }
});

test('the version of the runtime is in its name', () => {
  const { version } = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string };
  expect(runtime).toContain(`onnxruntime-node ${version}`);
});

const web = nodeEngines.find(({ name }) => name === 'ort-web')!;

/** Speeds that were measured before, of float32 and of int8, on each of two engines. */
async function measuredOn(ofCpu: Timings, ofWeb: Timings): Promise<Measurements> {
  const measurements = inMemory();
  const engine = web.open({ threads: 1 });
  await measurements.put({ family: 'm', runtime, device }, ofCpu);
  await measurements.put({ family: 'm', runtime: await engine.runtime(), device }, ofWeb);
  await engine.close();
  return measurements;
}

test.each<[string, VariantOptions, Timings, object]>([
  [
    'float32 on another engine, where it is fastest',
    { choice: 'auto' },
    timings([0.5, 2], [1, 3]),
    {
      name: 'fp32',
      engine: 'ort-web',
      why: 'fp32 on ort-web is 4.00 times as fast with 1 row and 4.00 times as fast with 16 rows',
    },
  ],
  ['int8 on another', { choice: 'auto' }, timings([3, 9], [0.5, 1]), { name: 'int8-dynamic', engine: 'ort-web' }],
  ['int8 on the first', { choice: 'auto' }, timings([3, 9], [2, 9]), { name: 'int8-dynamic', engine: 'ort-cpu' }],
  ['no int8 where nobody asked', { choice: 'fp32' }, timings([3, 9], [0.5, 1]), { name: 'fp32', engine: 'ort-cpu' }],
  [
    'float32 on another, without int8',
    { choice: 'fp32' },
    timings([1, 4], [0.5, 1]),
    { name: 'fp32', engine: 'ort-web' },
  ],
  [
    'int8 where that was asked',
    { choice: 'int8' },
    timings([0.1, 0.4], [1.5, 6]),
    { name: 'int8-dynamic', engine: 'ort-cpu' },
  ],
])('of forms and engines the fastest is taken: %s', async (_, options, ofWeb, chosen) => {
  const measurements = await measuredOn(timings([2, 8], [1, 4]), ofWeb);
  const engines = [cpu, web] as const;
  expect(await chooseVariant(subject, { ...machine, engines, measurements, ...options })).toMatchObject(chosen);
});

test('every form is tried on every engine, timed turn by turn, and that is kept for each engine', async () => {
  const measurements = inMemory();
  const parts = { ...machine, engines: [cpu, web] as const, measurements, choice: 'auto', patience: Infinity } as const;
  const { candidates } = await chooseVariant(subject, parts);
  expect(candidates.map(({ name, engine, runMs }) => [name, engine, runMs?.length])).toEqual([
    ['fp32', 'ort-cpu', 2],
    ['int8-dynamic', 'ort-cpu', 2],
    ['fp32', 'ort-web', 2],
    ['int8-dynamic', 'ort-web', 2],
  ]);
  // Both runtimes say nearly the same.
  expect(candidates[2]!.difference).toBeLessThan(1e-5);
  const again = await chooseVariant(subject, parts);
  expect(again.candidates.map(({ runMs }) => runMs)).toEqual(candidates.map(({ runMs }) => runMs));
});

test('an engine that is much slower is tried no further', async () => {
  const slow: EngineSource = {
    ...web,
    open: (options) => {
      const engine = web.open(options);
      return {
        name: 'ort-web',
        runtime: () => engine.runtime(),
        load: async (model) => {
          const session = await engine.load(model);
          const wait = () => new Promise((resolve) => setTimeout(resolve, 100));
          return { run: async (feeds) => (await wait(), session.run(feeds)), release: () => session.release() };
        },
        close: () => engine.close(),
      };
    },
  };
  const parts = { ...machine, engines: [cpu, slow] as const, measurements: inMemory(), choice: 'fp32' } as const;
  expect(await chooseVariant(subject, parts)).toMatchObject({
    engine: 'ort-cpu',
    why: expect.stringMatching(/^fp32 on ort-web takes \d+\.\d times as long with 1 row$/) as string,
  });
});

const broken = (load: Engine['load']): EngineSource => ({
  ...web,
  name: 'ort-dml',
  open: (options) => {
    const engine = web.open(options);
    return Object.assign(Object.create(engine) as typeof engine, {
      name: 'ort-dml',
      load,
      runtime: () => engine.runtime(),
      close: () => engine.close(),
    });
  },
});
const gone = (): Promise<never> => Promise.reject(new Error('the device was removed'));

test.each<[string, Engine['load']]>([
  ['load', gone],
  ['run', () => Promise.resolve({ run: gone, release: () => Promise.resolve() })],
])('an engine that cannot %s a form is no reason to have none', async (_, load) => {
  const parts = { ...machine, engines: [cpu, broken(load)] as const, measurements: inMemory() };
  const { name, engine, why } = await chooseVariant(subject, { ...parts, choice: 'int8' });
  expect([name, engine, why]).toEqual(['int8-dynamic', 'ort-cpu', 'int8 was asked for']);
});

test('why an engine is left aside is said', async () => {
  const run = { run: gone, release: () => Promise.resolve() };
  const parts = { ...machine, engines: [cpu, broken(() => Promise.resolve(run))] as const, measurements: inMemory() };
  const { engine, why } = await chooseVariant(subject, { ...parts, choice: 'fp32' });
  expect([engine, why]).toEqual(['ort-cpu', 'fp32 on ort-dml cannot be run: the device was removed']);
});

test.each<[string, Timings, boolean, boolean]>([
  ['faster everywhere', timings([2, 8], [1, 4]), false, true],
  ['slower for many rows', timings([2, 8], [1, 9]), false, false],
  ['slower for one row', timings([2, 8], [3, 4]), false, false],
  ['hardly faster', timings([2, 8], [1.95, 7.9]), false, false],
  ['never measured', timings([2, 8], [NaN, NaN]), false, false],
  ['faster, but not row by row where float32 has batches', timings([2, 8], [1, 4]), true, false],
  ['faster even row by row', timings([2, 17], [1, 4]), true, true],
])('a form that is %s', (_, measured, batches, isFaster) => {
  const [int8Ms, plainMs] = [measured['int8-dynamic']!, measured.fp32!];
  expect(verdictOn({ name: 'int8-dynamic', runMs: int8Ms }, { runMs: plainMs }, { batches }).isFaster).toBe(isFaster);
});

test('outputs that are no numbers are never near enough', () => {
  expect(inaccuracy('int8-dynamic', { difference: NaN, agreement: 1 }, { differenceMax: 1 })).toContain(
    'differ by NaN',
  );
  expect(inaccuracy('int8-dynamic', { difference: 0.01, agreement: 0.9 }, {})).toContain(
    'agrees on the largest output in 90.0 % of rows',
  );
  expect(inaccuracy('int8-dynamic', { difference: 0.01, agreement: 0.96 }, {})).toBeUndefined();
});
