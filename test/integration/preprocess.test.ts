/** Texts all the way: from a table, through a graph in front of the model, into training, the SDK and the endpoint. */
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { connect } from '@commonweight/client-sdk';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { contractOf, mlp, parametersOf, readModel, seeded, writeModel } from '@commonweight/core';
import { startServing } from '@commonweight/edge-agent';
import { inference } from '@commonweight/proto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { adminOf } from '../support/admin.ts';
import { grpcClient } from '../support/grpc.ts';
import { commonweight, temporaryFolder, until, type Program } from '../support/processes.ts';

const folder = temporaryFolder('preprocess');
const at = (name: string): string => join(folder, name);
const programs: Program[] = [];
let coordinator: RunningCoordinator;

beforeAll(async () => {
  coordinator = await startCoordinator({ dataDir: at('data'), grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  const random = seeded('people');
  const cities = ['Rome', 'Oslo', 'Zürich'];
  const rows = Array.from({ length: 600 }, () => {
    const [city, age] = [cities[random.integer(3)]!, 40 + 10 * random.normal()];
    // Who lives in Rome is, or is not, by the age; elsewhere the other way round.
    const label = age > 40 === (city === 'Rome') ? 'yes' : 'no';
    return `${age.toFixed(1)},"${city}",0${random.integer(5)},${label}`;
  });
  for (const part of [0, 1]) {
    writeFileSync(
      at(`people${part}.csv`),
      ['age,city,zip,label', ...rows.slice(part * 300, part * 300 + 300)].join('\n'),
    );
  }
  writeFileSync(at('model.onnx'), writeModel(mlp({ inputs: 8, hidden: [16], outputs: 2, seed: 1 })));
});

afterAll(async () => {
  for (const program of programs.reverse()) await program.end('SIGTERM');
  await coordinator.close();
  await rm(folder, { recursive: true });
});

const url = (): string => `grpc://127.0.0.1:${coordinator.grpcPort}`;

async function ran(...args: string[]): Promise<{ code: number; said: string }> {
  const program = commonweight(...args);
  const [code] = (await once(program.child, 'exit')) as [number];
  return { code, said: program.output() };
}

/** People that are told apart right. */
async function share(right: (age: number, city: string) => Promise<number>): Promise<number> {
  const people = [50, 55, 30, 25].flatMap((age) => ['Rome', 'Oslo', 'Zürich'].map((city) => ({ age, city })));
  let count = 0;
  for (const { age, city } of people) if ((await right(age, city)) === Number(age > 40 === (city === 'Rome'))) count++;
  return count / people.length;
}

const largest = (values: ArrayLike<number>): number => (values[1]! > values[0]! ? 1 : 0);

test('a table with texts is trained on by two agents, and apps give texts as well', async () => {
  const steps = ['--normalise', 'age=40,10', '--one-hot', 'city=Rome,Oslo,Zürich', '--hash', 'zip=4'];
  expect(await ran('model', 'preprocess', at('front.onnx'), ...steps)).toMatchObject({
    code: 0,
    said: expect.stringContaining(
      'age float[batch, 1], city string[batch, 1], zip string[batch, 1] -> input float[batch, 8]',
    ) as string,
  });
  const imported = await ran(
    'model',
    'import',
    at('model.onnx'),
    '--name',
    'people',
    '--preprocess',
    at('front.onnx'),
    '--coordinator',
    url(),
  );
  expect(imported).toMatchObject({ code: 0 });

  const admin = adminOf(coordinator.grpcPort);
  await admin.createTask('train', {
    model: 'people',
    plan: {
      loss: 'cross-entropy',
      optimizer: { name: 'adam', learningRate: 0.01 },
      epochs: 4,
      batchSize: 25,
      evaluation: { metrics: ['accuracy'], holdOut: 0.1 },
    },
    cohort: { min: 2, max: 2 },
    rounds: 5,
  });
  await admin.startTask('train');
  for (const part of [0, 1]) {
    const data = `csv:${at(`people${part}.csv`)}?classes=no,yes&text=zip`;
    programs.push(
      commonweight('agent', '--id', `a${part}`, '--data', data, '--coordinator', url(), '--dir', at(`a${part}`)),
    );
  }
  await until('the last round', 60_000, async () => (await admin.task('train')).state === 'finished');
  expect((await admin.task('train')).metrics['base_accuracy']).toBeGreaterThan(0.8);
  admin.close();

  const client = await connect(url());
  const live = await client.model('people');
  expect(live.contract?.inputs.map(({ name, dtype }) => `${name}: ${dtype}`)).toEqual([
    'age: float',
    'city: string',
    'zip: string',
  ]);
  const predicted = await share(async (age, city) => {
    const { outputs } = await live.predict({ age: Float32Array.of(age), city: [city], zip: ['02'] });
    return largest(outputs['logits']!.data as Float32Array);
  });
  expect(predicted).toBeGreaterThan(0.9);
  await client.close();
});

test('the command line predicts for a row of a table, and for JSON', async () => {
  const row = await ran(
    'predict',
    'people',
    '--data',
    `csv:${at('people0.csv')}?text=zip&classes=no,yes`,
    '--index',
    '3',
    '--coordinator',
    url(),
  );
  expect(row).toMatchObject({
    code: 0,
    said: expect.stringMatching(/logits \[1, 2\], largest at [01][\s\S]*label {5}(yes|no)/) as string,
  });
  writeFileSync(at('one.json'), JSON.stringify({ age: 50, city: 'Rome', zip: '02' }));
  const json = await ran('predict', 'people', '--input', at('one.json'), '--coordinator', url());
  expect(json).toMatchObject({ code: 0, said: expect.stringContaining('largest at 1') as string });
});

test('the endpoint takes texts as BYTES, in JSON, as binary data and over gRPC', async () => {
  const serving = await startServing({
    coordinator: url(),
    models: ['people'],
    http: '127.0.0.1:0',
    grpc: '127.0.0.1:0',
  });
  try {
    const address = `http://127.0.0.1:${serving.httpPort}/v2/models/people`;
    await until('the model', 30_000, async () => (await fetch(`${address}/ready`)).ok);
    const metadata = (await (await fetch(address)).json()) as { inputs: object[] };
    expect(metadata.inputs).toContainEqual({ name: 'city', datatype: 'BYTES', shape: [-1, 1] });
    const json = (age: number, city: string) => ({
      inputs: [
        { name: 'age', datatype: 'FP32', shape: [1, 1], data: [age] },
        { name: 'city', datatype: 'BYTES', shape: [1, 1], data: [city] },
        { name: 'zip', datatype: 'BYTES', shape: [1, 1], data: [['02']] },
      ],
    });
    const asked = async (
      body: string | Uint8Array<ArrayBuffer>,
      headers: Record<string, string> = {},
    ): Promise<number> => {
      const answer = await fetch(`${address}/infer`, { method: 'POST', body, headers });
      expect(answer.status).toBe(200);
      const { outputs } = (await answer.json()) as { outputs: { data: number[] }[] };
      return largest(outputs[0]!.data);
    };
    expect(await share((age, city) => asked(JSON.stringify(json(age, city))))).toBeGreaterThan(0.9);
    const binary = (age: number, city: string): Promise<number> => {
      const text = Buffer.from(city);
      const bytes = Buffer.concat([Uint8Array.of(text.length, 0, 0, 0), text]);
      const [first, , last] = json(age, city).inputs;
      const middle = { name: 'city', datatype: 'BYTES', shape: [1, 1], parameters: { binary_data_size: bytes.length } };
      const head = Buffer.from(JSON.stringify({ inputs: [first, middle, last] }));
      return asked(Buffer.concat([head, bytes]), { 'Inference-Header-Content-Length': String(head.length) });
    };
    expect(await share(binary)).toBeGreaterThan(0.9);
    const client = grpcClient(inference.GRPCInferenceService, serving.grpcPort!);
    const overGrpc = async (age: number, city: string): Promise<number> => {
      const texts = (text: string) => ({ bytesContents: [Buffer.from(text)] });
      const request = create(inference.ModelInferRequestSchema, {
        modelName: 'people',
        inputs: [
          { name: 'age', datatype: 'FP32', shape: [1n, 1n], contents: { fp32Contents: [age] } },
          { name: 'city', datatype: 'BYTES', shape: [1n, 1n], contents: texts(city) },
          { name: 'zip', datatype: 'BYTES', shape: [1n, 1n], contents: texts('02') },
        ],
      });
      const response = await client.unary<inference.ModelInferResponse>('modelInfer', request);
      return largest(response.outputs[0]!.contents!.fp32Contents);
    };
    expect(await share(overGrpc)).toBeGreaterThan(0.9);
    client.close();
  } finally {
    await serving.close();
  }
});

test('the exported file has the front in it, and what is trained is the model alone', async () => {
  expect(await ran('model', 'export', 'people', at('people.onnx'), '--coordinator', url())).toMatchObject({ code: 0 });
  const exported = readModel(readFileSync(at('people.onnx')));
  expect(contractOf(exported).inputs.map(({ name }) => name)).toEqual(['age', 'city', 'zip']);
  expect(parametersOf(exported)).toEqual(parametersOf(readModel(readFileSync(at('model.onnx')))));
});

test('a front that does not fit is refused in a line', async () => {
  const { code, said } = await ran(
    'model',
    'import',
    at('front.onnx'),
    '--preprocess',
    at('front.onnx'),
    '--coordinator',
    url(),
  );
  expect(code).toBe(2);
  expect(said.trim()).toMatch(
    /^commonweight: .*front\.onnx: output 'input' of the preprocessing graph is no input of the model, which has 'age'/,
  );
});
