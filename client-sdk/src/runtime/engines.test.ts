import { contractOf, mlp, needsOf, onnxRuntimeAbilities, readModel, writeModel } from '@commonweight/core';
import { expect, test } from 'vitest';
import { ModelError } from '../errors.ts';
import { whyNot } from './engine-probe.ts';
import { Engines, enginesFor, type EngineSource, type EngineSources } from './engines.ts';
import { madeUpInputs } from './example-inputs.ts';
import { nodeEngines } from './node-engines.ts';

const namesOf = (sources: EngineSources): string[] => sources.map(({ name }) => name);

/** A machine where some engines work. */
const machineWith = (...working: string[]): EngineSources =>
  nodeEngines.map((source): EngineSource => ({
    ...source,
    whyNot: () => Promise.resolve(working.includes(source.name) ? undefined : 'it is not there'),
  })) as unknown as EngineSources;

test('who asks for none gets the first, and nothing is tried', async () => {
  expect(namesOf(await enginesFor('ort-cpu', machineWith()))).toEqual(['ort-cpu']);
});

test('auto takes all that work, and WebAssembly where nothing native does', async () => {
  expect(namesOf(await enginesFor('auto', machineWith('ort-cpu', 'ort-webgpu', 'ort-web')))).toEqual([
    'ort-cpu',
    'ort-webgpu',
  ]);
  expect(namesOf(await enginesFor('auto', machineWith('ort-web')))).toEqual(['ort-web']);
  await expect(enginesFor('auto', machineWith())).rejects.toThrow('no engine works here: ort-cpu: it is not there;');
});

test('an engine that was asked for and does not work is an error that says why', async () => {
  expect(namesOf(await enginesFor('ort-cuda', machineWith('ort-cuda')))).toEqual(['ort-cuda']);
  await expect(enginesFor('ort-cuda', machineWith('ort-cpu'))).rejects.toEqual(
    new ModelError("ort-cuda does not work here: it is not there; 'auto' takes what works"),
  );
  await expect(enginesFor('ort-tpu' as 'ort-cpu', machineWith())).rejects.toThrow(
    "there is no engine 'ort-tpu' here: take ort-cpu, ort-cuda, ort-webgpu, ort-dml, ort-coreml, ort-web or auto, or bring it: connect(url, { engines })",
  );
});

test('the probe runs a small model: the CPU works, and what this build lacks does not', async () => {
  expect(await whyNot('ort-cpu')).toBeUndefined();
  const other = process.platform === 'darwin' ? 'ort-dml' : 'ort-coreml';
  expect(await whyNot(other)).toBe('the installed onnxruntime-node does not have it');
}, 120_000);

test('what one engine answers, another answers too, and each is opened with its first model alone', async () => {
  const model = mlp({ inputs: 8, hidden: [16], outputs: 3, seed: 1 });
  const onnx = writeModel(model);
  const opened: string[] = [];
  const known = nodeEngines.filter(({ name }) => name === 'ort-cpu' || name === 'ort-web');
  const watched = known.map((source): EngineSource => ({
    ...source,
    open: (options) => {
      opened.push(source.name);
      return source.open(options);
    },
  })) as unknown as EngineSources;
  const engines = new Engines(watched, { threads: 1 });
  const feeds = () => ({ ...madeUpInputs(contractOf(readModel(onnx)).inputs, { rows: 2, seed: 'x' }) });
  const own = await (await engines.load(onnx)).run(feeds());
  expect(opened).toEqual(['ort-cpu']);
  const others = await (await engines.load(onnx, 'ort-web')).run(feeds());
  expect(opened).toEqual(['ort-cpu', 'ort-web']);
  for (const [name, { data }] of Object.entries(own)) {
    (data as Float32Array).forEach((value, index) => expect(others[name]!.data[index]).toBeCloseTo(value, 5));
  }
  expect(await engines.runtime('ort-web')).toMatch(/^onnxruntime-web .* wasm in Node$/);
  await expect(engines.load(onnx, 'ort-cuda')).rejects.toThrow('this client does not run ort-cuda');
  await engines.close();
  await expect(engines.load(onnx)).rejects.toThrow('the client is closed');
}, 120_000);

/** A small model that is written for these sets, in this format of files. */
function writtenFor(sets: Readonly<Record<string, number>>, irVersion: number): Uint8Array {
  const model = readModel(writeModel(mlp({ inputs: 3, hidden: [2], outputs: 2, seed: 1 })));
  const [set] = model.opsetImport;
  const opsetImport = Object.entries(sets).map(([domain, version]) => ({ ...set!, domain, version: BigInt(version) }));
  return writeModel({ ...model, irVersion: BigInt(irVersion), opsetImport });
}

test.each(nodeEngines.filter(({ name }) => name === 'ort-cpu' || name === 'ort-web'))(
  '$name has the operator sets that it is said to have, and no newer ones',
  async (source) => {
    const engine = source.open({ threads: 1 });
    const { irVersion, operatorSets } = onnxRuntimeAbilities;
    try {
      const newest = writtenFor(operatorSets, irVersion);
      expect(source.lacks!(needsOf(readModel(newest)))).toBeUndefined();
      await (await engine.load(newest)).release();
      for (const [domain, version] of Object.entries(operatorSets)) {
        const newer = writtenFor({ ...operatorSets, [domain]: version + 1 }, irVersion);
        await expect(engine.load(newer)).rejects.toThrow();
      }
      const newer = writtenFor({ ...operatorSets, '': operatorSets['']! + 1 }, irVersion);
      expect(source.lacks!(needsOf(readModel(newer)))).toBe(`operator set ${operatorSets['']! + 1} of ONNX`);
      await expect(engine.load(writtenFor(operatorSets, irVersion + 1))).rejects.toThrow();
    } finally {
      await engine.close();
    }
  },
);
