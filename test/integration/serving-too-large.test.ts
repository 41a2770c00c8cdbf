/** Requests of a gigabyte to an endpoint in a process of its own: refused at once, in the protocol's words, from flat memory. */
import { writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { create, toBinary } from '@bufbuild/protobuf';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { logistic, writeModel } from '@commonweight/core';
import { inference } from '@commonweight/proto';
import { status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { grpcClient } from '../support/grpc.ts';
import { figuresOf } from '../support/process-figures.ts';
import { commonweight, temporaryFolder, until, type Program } from '../support/processes.ts';

const GIGABYTE = 2 ** 30;
/** By how much the endpoint may grow: what it reads before it knows, a garbage collector that takes its time, and no more. */
const GROWTH_MIB_MAX = 128;
const row = { name: 'input', datatype: 'FP32', shape: [1, 4], data: [5.1, 3.5, 1.4, 0.2] };

let coordinator: RunningCoordinator;
let endpoint: Program;
let httpPort: number;
let grpcPort: number;
let beforeMib: number;

beforeAll(async () => {
  const dataDir = join(temporaryFolder('serving-too-large'), 'coordinator');
  coordinator = await startCoordinator({ dataDir, grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  await coordinator.service.importModel('flowers', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
  [httpPort, grpcPort] = [await freePort(), await freePort()];
  endpoint = commonweight(
    ...['serve', 'flowers', '--coordinator', `grpc://127.0.0.1:${coordinator.grpcPort}`],
    ...['--http', `127.0.0.1:${httpPort}`, '--grpc', `127.0.0.1:${grpcPort}`],
  );
  const isReady = (): Promise<boolean> =>
    fetch(`http://127.0.0.1:${httpPort}/v2/health/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  await until('the endpoint', 60_000, isReady, endpoint.output);
});
afterAll(async () => {
  await endpoint.end('SIGTERM');
  await coordinator.close();
});

beforeEach(async () => {
  await expectPrediction();
  // From here on the kernel counts the most that the process has anew.
  writeFileSync(`/proc/${endpoint.child.pid}/clear_refs`, '5');
  beforeMib = figuresOf(endpoint).rssMib;
});
afterEach(async () => {
  await expectPrediction();
  const grownMib = figuresOf(endpoint).peakRssMib - beforeMib;
  console.log(`the endpoint grew by ${grownMib.toFixed(0)} MiB`);
  expect(grownMib).toBeLessThan(GROWTH_MIB_MAX);
});

/** A request like any other gets its answer, over both protocols. */
async function expectPrediction(): Promise<void> {
  const body = JSON.stringify({ inputs: [row] });
  const response = await fetch(`http://127.0.0.1:${httpPort}/v2/models/flowers/infer`, { method: 'POST', body });
  expect([response.status, await response.json()]).toMatchObject([200, { outputs: [{ shape: [1, 3] }] }]);
  const client = grpcClient(inference.GRPCInferenceService, grpcPort);
  const ready = await client.unary('serverReady', create(inference.ServerReadyRequestSchema));
  expect(ready).toMatchObject({ ready: true });
  client.close();
}

interface Refusal {
  /** What came before the connection ended. */
  text: string;
  /** Bytes that had been written when the first word of it came. */
  sentBytes: number;
}

/** Sends pieces until a gigabyte is sent or the endpoint closes. Nothing is kept: what the socket does not take yet is waited for. */
function sendGigabyte(head: string, piece: Uint8Array): Promise<Refusal> {
  return new Promise((resolve) => {
    let [sent, sentBytes, text] = [0, 0, ''];
    const socket = connect(httpPort, '127.0.0.1', () => {
      socket.write(head);
      pour();
    });
    const pour = (): void => {
      while (sent < GIGABYTE && !socket.destroyed) {
        sent += piece.length;
        if (!socket.write(piece)) return;
      }
    };
    socket.on('drain', pour);
    socket.on('data', (data) => {
      if (text === '') sentBytes = sent;
      text += String(data);
    });
    // Who goes on sending after the answer finds the connection closed.
    socket.on('error', () => {});
    socket.on('end', () => socket.destroy());
    socket.on('close', () => resolve({ text, sentBytes }));
  });
}

const headOf = (more: string): string => `POST /v2/models/flowers/infer HTTP/1.1\r\nHost: 127.0.0.1\r\n${more}\r\n\r\n`;
const words = new Uint8Array(65_536).fill(0x20);
const chunk = Buffer.concat([Buffer.from('10000\r\n'), words, Buffer.from('\r\n')]);

test.each([
  ['announced', `Content-Length: ${GIGABYTE}`, words, 'the JSON is larger than 8388608 bytes', 32],
  ['in chunks', 'Transfer-Encoding: chunked', chunk, 'the JSON is larger than 8388608 bytes', 64],
  [
    'in chunks, of binary tensors',
    'Transfer-Encoding: chunked\r\nInference-Header-Content-Length: 100',
    chunk,
    'the body is larger than 67108864 bytes',
    192,
  ],
])('a body of a gigabyte, %s', async (_, header, piece, why, sentMibMax) => {
  const { text, sentBytes } = await sendGigabyte(headOf(header), piece);
  expect(text).toMatch(/^HTTP\/1.1 413 [^]*Connection: close/);
  expect(text).toContain(`{"error":"${why}`);
  expect(sentBytes / 2 ** 20).toBeLessThan(sentMibMax);
});

const TOO_LARGE = 'the message is larger than 67108864 bytes: send fewer rows at once, or raise --body-max';

interface GrpcAnswer {
  status: number;
  message: string;
  sentBytes: number;
}

/** A message over gRPC in its frame, as a client in any language would send it, on a connection that then takes another call. */
async function sendMessage(lengthBytes: number, piece: Uint8Array, isCompressed = false): Promise<GrpcAnswer> {
  const session = connectHttp2(`http://127.0.0.1:${grpcPort}`);
  try {
    const answer = await new Promise<GrpcAnswer>((resolve, reject) => {
      const stream = session.request({
        ':method': 'POST',
        ':path': '/inference.GRPCInferenceService/ModelInfer',
        'content-type': 'application/grpc',
        te: 'trailers',
        ...(isCompressed ? { 'grpc-encoding': 'gzip' } : {}),
      });
      let [sent, isOver] = [0, false];
      const over = (headers: Record<string, unknown>): void => {
        if (headers['grpc-status'] === undefined) return;
        isOver = true;
        resolve({
          status: Number(headers['grpc-status']),
          message: decodeURIComponent(String(headers['grpc-message'])),
          sentBytes: sent,
        });
      };
      stream.on('response', over).on('trailers', over).on('error', reject).resume();
      const prefix = Buffer.alloc(5);
      prefix.writeUInt8(Number(isCompressed), 0);
      prefix.writeUInt32BE(lengthBytes, 1);
      stream.write(prefix);
      const pour = (): void => {
        while (!isOver && sent < lengthBytes && !stream.destroyed) {
          sent += piece.length;
          if (!stream.write(piece)) return;
        }
        if (sent >= lengthBytes) stream.end();
      };
      stream.on('drain', pour);
      pour();
    });
    // The connection is not to blame.
    const next = session.request({
      ':method': 'POST',
      ':path': '/inference.GRPCInferenceService/ServerLive',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const trailers = new Promise<Record<string, unknown>>((resolve, reject) => {
      next.on('trailers', resolve).on('error', reject).resume();
    });
    next.end(Buffer.alloc(5));
    expect((await trailers)['grpc-status']).toBe('0');
    return answer;
  } finally {
    session.destroy();
  }
}

test('a message of a gigabyte over gRPC', async () => {
  const { status: code, message, sentBytes } = await sendMessage(GIGABYTE, words);
  expect([code, message]).toEqual([status.RESOURCE_EXHAUSTED, TOO_LARGE]);
  expect(sentBytes / 2 ** 20).toBeLessThan(32);
});

test('a message over gRPC that is small on the way and too large when it is unpacked', async () => {
  const request = create(inference.ModelInferRequestSchema, {
    modelName: 'flowers',
    rawInputContents: [new Uint8Array(2 ** 27)],
  });
  const packed = gzipSync(toBinary(inference.ModelInferRequestSchema, request));
  const { status: code, message } = await sendMessage(packed.length, packed, true);
  expect([code, message]).toEqual([status.RESOURCE_EXHAUSTED, TOO_LARGE]);
});
