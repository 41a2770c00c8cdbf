/** The endpoint with a real coordinator, real models and real clients. */
import { createHash } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { logistic, mlp, writeModel } from '@commonweight/core';
import { startServing, type Serving, type ServingEvent, type ServingOptions } from '@commonweight/edge-agent';
import { inference } from '@commonweight/proto';
import { status, type ServiceError } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { grpcClient } from '../support/grpc.ts';
import { commonweight, temporaryFolder, until } from '../support/processes.ts';

let coordinator: RunningCoordinator;
const folder = temporaryFolder('serving');
const closers: (() => Promise<unknown>)[] = [];
/** Of what several tests share. */
const lastClosers: (() => Promise<unknown>)[] = [];
let shared: Endpoint | undefined;

beforeAll(async () => {
  coordinator = await startCoordinator({
    dataDir: join(folder, 'coordinator'),
    grpc: '127.0.0.1:0',
    http: '127.0.0.1:0',
  });
  await coordinator.service.importModel('digits', writeModel(mlp({ inputs: 784, hidden: [16], outputs: 10, seed: 1 })));
  await coordinator.service.importModel('flowers', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
});
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});
afterAll(async () => {
  for (const close of lastClosers) await close();
  await coordinator.close();
});

const coordinatorUrl = (): string => `grpc://127.0.0.1:${coordinator.grpcPort}`;

interface Endpoint {
  serving: Serving;
  url: string;
  events: ServingEvent[];
}

/** Serves both models, over HTTP and gRPC, and waits until it knows what may be batched. */
async function endpoint(options: Partial<ServingOptions> = {}, closeIn = closers): Promise<Endpoint> {
  const events: ServingEvent[] = [];
  const serving = await startServing({
    coordinator: coordinatorUrl(),
    models: ['digits', 'flowers'],
    http: '127.0.0.1:0',
    grpc: '127.0.0.1:0',
    onEvent: (event) => events.push(event),
    ...options,
  });
  closeIn.push(() => serving.close());
  const wanted = options.models?.length ?? 2;
  await until('both models', 30_000, () => events.filter(({ type }) => type === 'batching').length >= wanted);
  return { serving, url: `http://127.0.0.1:${serving.httpPort}`, events };
}

interface Answer {
  code: number;
  headers: Headers;
  body: {
    error?: string;
    model_version?: string;
    id?: string;
    outputs?: { name: string; shape: number[]; data: number[] }[];
  };
}

async function ask(url: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(url, init);
  return { code: response.status, headers: response.headers, body: (await response.json()) as Answer['body'] };
}

const post = (url: string, body: unknown): Promise<Answer> => ask(url, { method: 'POST', body: JSON.stringify(body) });
const row = { name: 'input', datatype: 'FP32', shape: [1, 4], data: [5.1, 3.5, 1.4, 0.2] };

test('metadata, health and predictions of several models over HTTP', async () => {
  const { url } = await endpoint();
  expect((await ask(`${url}/v2`)).body).toEqual({
    name: 'commonweight',
    version: '0.1.0',
    extensions: ['binary_tensor_data'],
  });
  expect((await ask(`${url}/v2/health/live`)).body).toEqual({ live: true });
  expect((await ask(`${url}/v2/health/ready`)).body).toEqual({ ready: true });
  expect((await ask(`${url}/v2/models/flowers/versions/1/ready`)).body).toEqual({ name: 'flowers', ready: true });
  expect((await ask(`${url}/v2/models/flowers`)).body).toEqual({
    name: 'flowers',
    versions: ['1'],
    platform: 'onnxruntime_onnx',
    inputs: [{ name: 'input', datatype: 'FP32', shape: [-1, 4] }],
    outputs: [{ name: 'logits', datatype: 'FP32', shape: [-1, 3] }],
  });
  const { code, body } = await post(`${url}/v2/models/flowers/versions/1/infer`, {
    id: 'q1',
    inputs: [row],
    outputs: [{ name: 'logits' }],
  });
  expect({ code, id: body.id, version: body.model_version, shape: body.outputs?.[0]?.shape }).toEqual({
    code: 200,
    id: 'q1',
    version: '1',
    shape: [1, 3],
  });
  const digits = { name: 'input', datatype: 'FP32', shape: [2, 784], data: new Array<number>(2 * 784).fill(0.5) };
  expect((await post(`${url}/v2/models/digits/infer`, { inputs: [digits] })).body.outputs?.[0]?.shape).toEqual([2, 10]);
});

test.each<[string, string, unknown, number, string]>([
  [
    'an unknown model',
    'nope/infer',
    { inputs: [row] },
    404,
    "model 'nope' is not served here; 'digits', 'flowers' are",
  ],
  [
    'an unknown version',
    'flowers/versions/9/infer',
    { inputs: [row] },
    404,
    "version '9' of 'flowers' is not served; version 1 is",
  ],
  [
    'a wrong name',
    'flowers/infer',
    { inputs: [{ ...row, name: 'x' }] },
    400,
    "the model has no input 'x'; it has 'input' FP32[-1, 4]",
  ],
  ['an extra input', 'flowers/infer', { inputs: [row, { ...row, name: 'y' }] }, 400, "the model has no input 'y'"],
  ['a missing input', 'flowers/infer', { inputs: [] }, 400, "input 'input' is missing: give FP32[-1, 4]"],
  [
    'a wrong shape',
    'flowers/infer',
    { inputs: [{ ...row, shape: [2, 2] }] },
    400,
    "input 'input' is FP32[-1, 4], not [2, 2]",
  ],
  ['a wrong rank', 'flowers/infer', { inputs: [{ ...row, shape: [4] }] }, 400, "input 'input' is FP32[-1, 4], not [4]"],
  ['a wrong datatype', 'flowers/infer', { inputs: [{ ...row, datatype: 'FP64' }] }, 400, 'not FP64: send it as FP32'],
  [
    'an unknown output',
    'flowers/infer',
    { inputs: [row], outputs: [{ name: 'z' }] },
    400,
    "the model has no output 'z'; it has 'logits'",
  ],
  [
    'numbers that overflow',
    'flowers/infer',
    { inputs: [{ ...row, data: [3e38, -3e38, 3e38, -3e38] }] },
    422,
    'which JSON cannot say',
  ],
])('%s is refused with the cause and the mend', async (_, path, body, code, words) => {
  shared ??= await endpoint({}, lastClosers);
  const answer = await post(`${shared.url}/v2/models/${path}`, body);
  expect({ code: answer.code, body: answer.body }).toEqual({
    code,
    body: { error: expect.stringContaining(words) as string },
  });
});

test.each([
  ['NaN', 400, 'JSON has no NaN and no Infinity: leave them out, or send the tensor as binary data'],
  ['-Infinity', 400, 'JSON has no NaN and no Infinity'],
  ['1e999', 400, "value 1 of input 'input' is Infinity; FP32 takes finite numbers within its range"],
  ['"NaN"', 400, "value 1 of input 'input' is 'NaN'; FP32 takes numbers"],
])('%s in JSON is refused', async (value, code, words) => {
  shared ??= await endpoint({}, lastClosers);
  const body = `{"inputs":[{"name":"input","datatype":"FP32","shape":[1,4],"data":[5.1,${value},1.4,0.2]}]}`;
  const answer = await ask(`${shared.url}/v2/models/flowers/infer`, { method: 'POST', body });
  expect({ code: answer.code, body: answer.body }).toEqual({
    code,
    body: { error: expect.stringContaining(words) as string },
  });
});

const grpcRow = { name: 'input', datatype: 'FP32', shape: [1n, 4n], contents: { fp32Contents: row.data } };
const bytes = new Uint8Array(Float32Array.from(row.data).buffer);

test.each<[string, MessageInitShape<typeof inference.ModelInferRequestSchema>, status, string]>([
  [
    'an unknown model',
    { modelName: 'nope', inputs: [grpcRow] },
    status.NOT_FOUND,
    "model 'nope' is not served here; 'digits', 'flowers' are",
  ],
  [
    'an unknown version',
    { modelVersion: '9', inputs: [grpcRow] },
    status.NOT_FOUND,
    "version '9' of 'flowers' is not served; version 1 is",
  ],
  [
    'a wrong name',
    { inputs: [{ ...grpcRow, name: 'x' }] },
    status.INVALID_ARGUMENT,
    "the model has no input 'x'; it has 'input' FP32[-1, 4]",
  ],
  ['a missing input', { inputs: [] }, status.INVALID_ARGUMENT, "input 'input' is missing: give FP32[-1, 4]"],
  [
    'a wrong shape',
    { inputs: [{ ...grpcRow, shape: [2n, 2n] }] },
    status.INVALID_ARGUMENT,
    "input 'input' is FP32[-1, 4], not [2, 2]",
  ],
  [
    'a shape that the values do not fill',
    { inputs: [{ ...grpcRow, shape: [2n, 4n] }] },
    status.INVALID_ARGUMENT,
    "input 'input' has 4 values in fp32_contents, and FP32 of shape [2, 4] takes 8",
  ],
  [
    'a wrong datatype',
    { inputs: [{ ...grpcRow, datatype: 'FP64', contents: { fp64Contents: row.data } }] },
    status.INVALID_ARGUMENT,
    'not FP64: send it as FP32',
  ],
  [
    'an unknown datatype',
    { inputs: [{ ...grpcRow, datatype: 'FP8' }] },
    status.INVALID_ARGUMENT,
    "input 'input' has datatype 'FP8'; this server takes",
  ],
  [
    'raw bytes of another length',
    { inputs: [{ ...grpcRow, contents: undefined }], rawInputContents: [bytes.subarray(1)] },
    status.INVALID_ARGUMENT,
    "input 'input' has 15 bytes of data, and FP32 of shape [1, 4] takes 16",
  ],
  [
    'an unknown output',
    { inputs: [grpcRow], outputs: [{ name: 'z' }] },
    status.INVALID_ARGUMENT,
    "the model has no output 'z'; it has 'logits'",
  ],
])('over gRPC %s is refused with the cause and the mend', async (_, request, code, words) => {
  shared ??= await endpoint({}, lastClosers);
  const client = grpcClient(inference.GRPCInferenceService, shared.serving.grpcPort!);
  closers.push(() => Promise.resolve(client.close()));
  const asked = client.unary(
    'modelInfer',
    create(inference.ModelInferRequestSchema, { modelName: 'flowers', ...request }),
  );
  await expect(asked).rejects.toMatchObject({ code, details: expect.stringContaining(words) as string });
});

test('over gRPC NaN goes to the model, as over HTTP in bytes, and comes back', async () => {
  shared ??= await endpoint({}, lastClosers);
  const client = grpcClient(inference.GRPCInferenceService, shared.serving.grpcPort!);
  closers.push(() => Promise.resolve(client.close()));
  const message = create(inference.ModelInferRequestSchema, {
    modelName: 'flowers',
    inputs: [{ ...grpcRow, contents: { fp32Contents: [5.1, NaN, 1.4, 0.2] } }],
  });
  const { outputs } = await client.unary<inference.ModelInferResponse>('modelInfer', message);
  expect(outputs[0]!.contents!.fp32Contents).toEqual([NaN, NaN, NaN]);
});

test('what is no path, method, coding or host of ours is refused', async () => {
  const { url, serving } = await endpoint();
  expect(await ask(`${url}/nowhere`)).toMatchObject({ code: 404 });
  const get = await ask(`${url}/v2/models/flowers/infer`);
  expect({ code: get.code, allow: get.headers.get('allow') }).toEqual({ code: 405, allow: 'POST' });
  const named = await ask(`${url}/v2/models/explain`, { method: 'POST', body: '{}' });
  expect({ code: named.code, allow: named.headers.get('allow') }).toEqual({ code: 405, allow: 'GET, HEAD' });
  const zipped = { method: 'POST', body: '{}', headers: { 'Content-Encoding': 'gzip' } };
  expect(await ask(`${url}/v2/models/flowers/infer`, zipped)).toMatchObject({ code: 415 });
  expect(await raw(serving.httpPort, 'GET /v2 HTTP/1.1\r\nHost: evil.example\r\n\r\n')).toMatch(/^HTTP\/1.1 403 /);
  expect(await ask(`${url}/v2`, { headers: { Origin: 'http://evil.example' } })).toMatchObject({ code: 403 });
});

test('a body that is announced as too large is refused before it is read', async () => {
  const { serving } = await endpoint();
  const head = (more: string): string => `POST /v2/models/flowers/infer HTTP/1.1\r\nHost: 127.0.0.1\r\n${more}\r\n\r\n`;
  const gigabyte = await raw(serving.httpPort, head(`Content-Length: ${2 ** 30}`));
  expect(gigabyte).toMatch(
    /^HTTP\/1.1 413 [^]*Connection: close[^]*"error":"the JSON is larger than 8388608 bytes: send large tensors as binary data"/,
  );
  const binary = await raw(serving.httpPort, head(`Content-Length: ${2 ** 30}\r\nInference-Header-Content-Length: 9`));
  expect(binary).toMatch(
    /^HTTP\/1.1 413 [^]*"error":"the body is larger than 67108864 bytes: send fewer rows at once, or raise --body-max"/,
  );
  const asking = await raw(serving.httpPort, head(`Content-Length: ${2 ** 30}\r\nExpect: 100-continue`));
  expect(asking).toMatch(/^HTTP\/1.1 413 /);
});

test('a body that grows too large is cut off, and its sender is told', async () => {
  const { serving } = await endpoint({ bodyBytesMax: 2 ** 20 });
  const head = 'POST /v2/models/flowers/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n';
  const chunk = `10000\r\n${'x'.repeat(65_536)}\r\n`;
  expect(await raw(serving.httpPort, head + chunk.repeat(32))).toMatch(/^HTTP\/1.1 413 /);
  expect(await ask(`http://127.0.0.1:${serving.httpPort}/v2/health/live`)).toMatchObject({ code: 200 });
});

/** What comes back for these bytes, up to the first whole answer or the end. */
function raw(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket: Socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    socket.on('data', (data) => {
      text += String(data);
      if (text.endsWith('}')) socket.destroy();
    });
    socket.on('error', reject).on('close', () => resolve(text));
  });
}

test('tensors as bytes, there and back', async () => {
  const { url } = await endpoint();
  const data = Buffer.from(Float32Array.from(row.data).buffer);
  const json = JSON.stringify({
    inputs: [{ name: 'input', datatype: 'FP32', shape: [1, 4], parameters: { binary_data_size: data.length } }],
    outputs: [{ name: 'logits', parameters: { binary_data: true } }],
  });
  const response = await fetch(`${url}/v2/models/flowers/infer`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/octet-stream', 'Inference-Header-Content-Length': String(json.length) },
    body: Buffer.concat([Buffer.from(json), data]),
  });
  const body = Buffer.from(await response.arrayBuffer());
  const jsonLength = Number(response.headers.get('inference-header-content-length'));
  const { outputs } = JSON.parse(body.subarray(0, jsonLength).toString()) as { outputs: unknown };
  expect(outputs).toEqual([{ name: 'logits', datatype: 'FP32', shape: [1, 3], parameters: { binary_data_size: 12 } }]);
  const plain = (await post(`${url}/v2/models/flowers/infer`, { inputs: [row] })).body.outputs![0]!.data;
  expect([...new Float32Array(new Uint8Array(body.subarray(jsonLength)).buffer)]).toEqual(plain.map(Math.fround));
});

test('the same over gRPC, with its own codes for what is wrong', async () => {
  const { serving, url } = await endpoint();
  const client = grpcClient(inference.GRPCInferenceService, serving.grpcPort!);
  closers.push(() => Promise.resolve(client.close()));
  expect(await client.unary('serverReady', create(inference.ServerReadyRequestSchema))).toMatchObject({ ready: true });
  const ready = (name: string, version = ''): Promise<unknown> =>
    client.unary('modelReady', create(inference.ModelReadyRequestSchema, { name, version }));
  expect([await ready('flowers'), await ready('flowers', '9')]).toMatchObject([{ ready: true }, { ready: false }]);
  expect(
    await client.unary('modelMetadata', create(inference.ModelMetadataRequestSchema, { name: 'flowers' })),
  ).toMatchObject({
    versions: ['1'],
    inputs: [{ name: 'input', datatype: 'FP32', shape: [-1n, 4n] }],
  });
  const request = (shape: bigint[], modelName = 'flowers', modelVersion = ''): inference.ModelInferRequest =>
    create(inference.ModelInferRequestSchema, {
      modelName,
      modelVersion,
      id: 'q',
      inputs: [{ name: 'input', datatype: 'FP32', shape, contents: { fp32Contents: row.data } }],
    });
  const infer = (message: inference.ModelInferRequest): Promise<inference.ModelInferResponse> =>
    client.unary('modelInfer', message);
  const { outputs, modelVersion, id } = await infer(request([1n, 4n]));
  const plain = (await post(`${url}/v2/models/flowers/infer`, { inputs: [row] })).body.outputs![0]!.data;
  expect({ modelVersion, id, values: outputs[0]?.contents?.fp32Contents }).toEqual({
    modelVersion: '1',
    id: 'q',
    values: plain,
  });
  const codeOf = (message: inference.ModelInferRequest): Promise<number> =>
    infer(message).then(
      () => status.OK,
      (error: ServiceError) => error.code,
    );
  expect([
    await codeOf(request([4n])),
    await codeOf(request([1n, 4n], 'nope')),
    await codeOf(request([1n, 4n], 'flowers', '9')),
  ]).toEqual([status.INVALID_ARGUMENT, status.NOT_FOUND, status.NOT_FOUND]);
});

test('a message that is too large is refused over gRPC too', async () => {
  const { serving } = await endpoint({ bodyBytesMax: 2 ** 16 });
  const client = grpcClient(inference.GRPCInferenceService, serving.grpcPort!);
  closers.push(() => Promise.resolve(client.close()));
  const message = create(inference.ModelInferRequestSchema, {
    modelName: 'flowers',
    rawInputContents: [new Uint8Array(2 ** 17)],
  });
  await expect(client.unary('modelInfer', message)).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED });
});

test('requests that come together run together, and each gets what it would get alone', async () => {
  const { url } = await endpoint({ batchMax: 16, batchDelayMs: 20 });
  const rows = Array.from({ length: 64 }, (_, index) => ({
    ...row,
    data: row.data.map((value) => value + index / 10),
  }));
  const alone: number[][] = [];
  for (const input of rows)
    alone.push((await post(`${url}/v2/models/flowers/infer`, { inputs: [input] })).body.outputs![0]!.data);
  const before = await batchesOf(url);
  const together = await Promise.all(rows.map((input) => post(`${url}/v2/models/flowers/infer`, { inputs: [input] })));
  for (const [index, { body }] of together.entries()) {
    body.outputs![0]!.data.forEach((value, place) => expect(value).toBeCloseTo(alone[index]![place]!, 4));
  }
  const after = await batchesOf(url);
  expect(after.rows - before.rows).toBe(64);
  expect(after.runs - before.runs).toBeLessThan(64);
});

async function batchesOf(url: string): Promise<{ rows: number; runs: number }> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const value = (name: string): number => Number(new RegExp(`${name}{model="flowers"} (\\d+)`).exec(text)?.[1]);
  return { rows: value('batch_rows_sum'), runs: value('batch_rows_count') };
}

test('a full queue answers 429 and says when to come again', async () => {
  // Slow enough that 64 requests cannot come one after the other.
  await coordinator.service.importModel(
    'slow',
    writeModel(mlp({ inputs: 4, hidden: [1500, 1500, 1500], outputs: 3, seed: 1 })),
  );
  const { url } = await endpoint({ queueMax: 1, batchMax: 2, models: ['slow'] });
  const answers = await Promise.all(
    Array.from({ length: 64 }, () => post(`${url}/v2/models/slow/infer`, { inputs: [row] })),
  );
  const refused = answers.filter(({ code }) => code === 429);
  expect(answers.filter(({ code }) => code === 200).length + refused.length).toBe(64);
  expect(refused.length).toBeGreaterThan(0);
  expect({ body: refused[0]!.body, after: refused[0]!.headers.get('retry-after') }).toEqual({
    body: { error: "the queue of 'slow' is full, with 1 waiting: try again later, or serve it from more processes" },
    after: '1',
  });
  expect(await (await fetch(`${url}/metrics`)).text()).toContain(
    `commonweight_serving_errors_total{model="slow",reason="queue-full"} ${refused.length}`,
  );
});

test('int8 serves where it is asked for, and says so', async () => {
  const { url, events } = await endpoint({ variant: { choice: 'int8' }, models: ['digits'] });
  expect(events).toContainEqual(
    expect.objectContaining({ type: 'version', model: 'digits', variant: 'int8-dynamic', why: 'int8 was asked for' }),
  );
  expect(await (await fetch(`${url}/metrics`)).text()).toContain(
    'commonweight_serving_variant_info{model="digits",variant="int8-dynamic",engine="ort-cpu"} 1',
  );
});

test('another engine serves where it is asked for, and one that does not work here is an error that says why', async () => {
  const { url, events } = await endpoint({ engine: 'ort-web', models: ['digits'] });
  expect(events).toContainEqual(expect.objectContaining({ type: 'version', variant: 'fp32', engine: 'ort-web' }));
  const body = { inputs: [{ name: 'input', datatype: 'FP32', shape: [1, 784], data: Array(784).fill(0.5) }] };
  const answers = async (at: string): Promise<number[]> => {
    const response = await fetch(`${at}/v2/models/digits/infer`, { method: 'POST', body: JSON.stringify(body) });
    return ((await response.json()) as { outputs: { data: number[] }[] }).outputs[0]!.data;
  };
  const [own, usual] = [await answers(url), await answers((await endpoint({ models: ['digits'] })).url)];
  own.forEach((value, index) => expect(value).toBeCloseTo(usual[index]!, 4));
  const missing = process.platform === 'darwin' ? 'ort-dml' : 'ort-coreml';
  await expect(endpoint({ engine: missing })).rejects.toThrow(
    `${missing} does not work here: the installed onnxruntime-node does not have it; 'auto' takes what works`,
  );
}, 120_000);

test('a model that comes later is served without a restart', async () => {
  const { url, serving } = await endpoint({ models: [] });
  expect(await ask(`${url}/v2/health/ready`)).toMatchObject({
    code: 503,
    body: { error: 'no model was asked for yet' },
  });
  serving.serve('late');
  await until(
    'a reason',
    10_000,
    async () => (await ask(`${url}/v2/models/late`)).body.error?.includes('import it first') ?? false,
  );
  await coordinator.service.importModel('late', writeModel(logistic({ inputs: 2, outputs: 2, seed: 1 })));
  await until('the model', 20_000, async () => (await ask(`${url}/v2/models/late/ready`)).code === 200);
});

test('the page runs its own script and style and nothing else', async () => {
  const { url } = await endpoint();
  const response = await fetch(url);
  const text = await response.text();
  const policy = response.headers.get('content-security-policy') ?? '';
  for (const element of ['style', 'script type="module"']) {
    const [, inside = ''] = new RegExp(`<${element}>([^]*?)</${element.split(' ')[0]}>`).exec(text) ?? [];
    expect(policy).toContain(`'sha256-${createHash('sha256').update(inside).digest('base64')}'`);
    // A page that cannot be parsed shows nothing, and nobody hears of it.
    if (element !== 'style') expect(() => new AsyncFunction(inside)).not.toThrow();
  }
  expect(await ask(`${url}/api/models`)).toMatchObject({
    code: 200,
    body: { models: [{ name: 'digits', version: 1 }, { name: 'flowers' }] },
  });
});
const AsyncFunction = (async () => {}).constructor as FunctionConstructor;

test('a port that is in use is named', async () => {
  const { serving } = await endpoint();
  const again = startServing({ coordinator: coordinatorUrl(), models: [], http: `127.0.0.1:${serving.httpPort}` });
  await expect(again).rejects.toThrow(`cannot listen for HTTP on 127.0.0.1:${serving.httpPort}, which is in use`);
});

test('an address of another machine is refused', async () => {
  const outside = startServing({ coordinator: coordinatorUrl(), models: [], http: '0.0.0.0:0' });
  await expect(outside).rejects.toThrow('--serve 0.0.0.0:0 is not on this machine');
});

test('versions change under load, and no prediction fails', async () => {
  const { service } = coordinator;
  await service.createTask(
    'train',
    JSON.stringify({
      model: 'digits',
      plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 32 },
      cohort: { min: 1, max: 1 },
      rounds: 4,
    }),
  );
  const port = await freePort();
  const agent = commonweight(
    ...['agent', '--coordinator', coordinatorUrl(), '--data', 'mnist?partition=0/40&seed=1', '--id', 'a0'],
    ...['--dir', join(folder, 'a0'), '--serve', `127.0.0.1:${port}`, '--serve-model', 'digits'],
  );
  closers.push(() => agent.end('SIGTERM'));
  const url = `http://127.0.0.1:${port}`;
  await until(
    'the model',
    30_000,
    () =>
      ask(`${url}/v2/health/ready`).then(
        ({ code }) => code === 200,
        () => false,
      ),
    agent.output,
  );
  await service.startTask('train');
  const input = { name: 'input', datatype: 'FP32', shape: [1, 784], data: new Array<number>(784).fill(0.5) };
  const seen = new Set<string>();
  const failures: unknown[] = [];
  const client = async (): Promise<void> => {
    while (!seen.has('5') && failures.length === 0) {
      const { code, body } = await post(`${url}/v2/models/digits/infer`, { inputs: [input] });
      if (code !== 200 || body.outputs?.[0]?.data.length !== 10) failures.push(body);
      seen.add(body.model_version ?? '');
    }
  };
  await Promise.all(Array.from({ length: 8 }, client));
  expect({ failures, last: [...seen].at(-1) }).toEqual({ failures: [], last: '5' });
  expect(seen.size).toBeGreaterThan(2);
});
