/** What tritonclient and kserve send, byte by byte as they sent it (stock-clients/record.py), gets the answers that these clients wait for. */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { logistic, writeModel } from '@commonweight/core';
import { startServing, type Serving } from '@commonweight/edge-agent';
import { inference } from '@commonweight/proto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { rawUnary } from '../support/grpc.ts';
import { temporaryFolder, until } from '../support/processes.ts';

interface Recording {
  client: string;
  http: { name: string; head: string; body: string }[];
  grpc: { name: string; method: string; message: string }[];
}

const recordings = ['tritonclient', 'kserve'].map(
  (client) =>
    JSON.parse(readFileSync(join(import.meta.dirname, 'stock-clients', `${client}.json`), 'utf8')) as Recording,
);

let coordinator: RunningCoordinator;
let serving: Serving;
let expected: number[];

beforeAll(async () => {
  const dataDir = join(temporaryFolder('stock-clients'), 'coordinator');
  coordinator = await startCoordinator({ dataDir, grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  await coordinator.service.importModel('flowers', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
  serving = await startServing({
    coordinator: `grpc://127.0.0.1:${coordinator.grpcPort}`,
    models: ['flowers'],
    http: '127.0.0.1:0',
    grpc: '127.0.0.1:0',
  });
  const url = `http://127.0.0.1:${serving.httpPort}/v2`;
  await until('the model', 30_000, async () => (await fetch(`${url}/health/ready`)).ok);
  const inputs = [{ name: 'input', datatype: 'FP32', shape: [1, 4], data: [5.1, 3.5, 1.4, 0.2] }];
  const asked = await fetch(`${url}/models/flowers/infer`, { method: 'POST', body: JSON.stringify({ inputs }) });
  expected = ((await asked.json()) as { outputs: { data: number[] }[] }).outputs[0]!.data.map(Math.fround);
});
afterAll(async () => {
  await serving.close();
  await coordinator.close();
});

interface HttpAnswer {
  code: number;
  json: Record<string, unknown>;
  /** What is behind the JSON. */
  binary: Buffer;
}

/** Sends the bytes on a connection and gives the answer, taken apart as the protocol says. */
function answerTo(head: string, body: Buffer): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const socket = connect(serving.httpPort, '127.0.0.1', () => socket.write(Buffer.concat([Buffer.from(head), body])));
    socket.on('error', reject).on('close', () => reject(new Error(`the connection ended after ${String(received)}`)));
    socket.on('data', (data) => {
      received = Buffer.concat([received, data]);
      const start = received.indexOf('\r\n\r\n') + 4;
      const headers = received.subarray(0, start).toString().toLowerCase();
      const length = Number(
        /content-length: (\d+)/.exec(headers.replace(/inference-header-content-length.*/, ''))?.[1],
      );
      if (start < 4 || received.length < start + length) return;
      const end = start + Number(/inference-header-content-length: (\d+)/.exec(headers)?.[1] ?? length);
      resolve({
        code: Number(/^http\/1.1 (\d+)/.exec(headers)?.[1]),
        json: JSON.parse(received.subarray(start, end).toString()) as HttpAnswer['json'],
        binary: received.subarray(end, start + length),
      });
      socket.removeAllListeners('close').destroy();
    });
  });
}

const floats = (bytes: Uint8Array): number[] => [...new Float32Array(new Uint8Array(bytes).buffer)];

describe.each(recordings)('$client', ({ http, grpc }) => {
  const predictions = http.filter(({ head, name }) => head.startsWith('POST') && name !== 'compressed');

  test.each(predictions)('HTTP: $name', async ({ head, body, name }) => {
    const bytes = Buffer.from(body, 'base64');
    const { code, json, binary } = await answerTo(head, bytes);
    // A client that names no output and one that asks for bytes get what they ask for.
    const asked = bytes.toString('latin1');
    const isBinary = /"binary_data(_output)?":true/.test(asked);
    const id = /"id":"([^"]+)"/.exec(asked)?.[1];
    expect({ code, json }, name).toEqual({
      code: 200,
      json: {
        model_name: 'flowers',
        model_version: '1',
        ...(id === undefined ? {} : { id }),
        outputs: [
          {
            name: 'logits',
            datatype: 'FP32',
            shape: [1, 3],
            ...(isBinary ? { parameters: { binary_data_size: 12 } } : { data: expect.any(Array) as number[] }),
          },
        ],
      },
    });
    const [{ data }] = json['outputs'] as [{ data: number[] }];
    expect(isBinary ? floats(binary) : data.map(Math.fround)).toEqual(expected);
  });

  test.each(http.filter(({ name }) => name === 'compressed'))('HTTP: $name is refused', async ({ head, body }) => {
    const { code, json } = await answerTo(head, Buffer.from(body, 'base64'));
    expect({ code, json }).toEqual({ code: 415, json: { error: 'a body in gzip is not taken: send it uncompressed' } });
  });

  test.each(http.filter(({ head }) => head.startsWith('GET')))('HTTP: $name', async ({ head, name }) => {
    const { code, json } = await answerTo(head, Buffer.alloc(0));
    expect({ code, json }).toMatchObject({
      code: 200,
      json: name === 'readiness' ? { ready: true } : { inputs: [{ name: 'input', datatype: 'FP32', shape: [-1, 4] }] },
    });
  });

  test.each(grpc)('gRPC: $name', async ({ method, message }) => {
    const bytes = Buffer.from(message, 'base64');
    const asked = fromBinary(inference.ModelInferRequestSchema, bytes);
    const { modelName, modelVersion, id, outputs, rawOutputContents } = fromBinary(
      inference.ModelInferResponseSchema,
      await rawUnary(serving.grpcPort!, method, bytes),
    );
    expect({ modelName, modelVersion, id, shape: outputs[0]?.shape }).toEqual({
      modelName: 'flowers',
      modelVersion: '1',
      id: asked.id,
      shape: [1n, 3n],
    });
    const isRaw = asked.rawInputContents.length > 0;
    const values = isRaw ? floats(rawOutputContents[0]!) : outputs[0]!.contents!.fp32Contents.map(Math.fround);
    expect(values).toEqual(expected);
  });
});
