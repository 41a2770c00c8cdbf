import { spawn } from 'node:child_process';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { freePort } from '../../../test/support/free-port.ts';
import { TransportError } from '../errors.ts';
import { nodePlatform } from '../platform/node.ts';
import { saysUnreached } from './unreached.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** How asking for a model over a link fails. */
async function failureOf(url: string): Promise<TransportError> {
  const link = nodePlatform.openLink(url);
  closers.push(() => link.close());
  const error: unknown = await link.getModel('m', 0).catch((failure: unknown) => failure);
  expect(error).toBeInstanceOf(TransportError);
  return error as TransportError;
}

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

test('where nobody listens nothing answered, over every link', { timeout: 60_000 }, async () => {
  const port = await freePort();
  for (const kind of ['grpc', 'http', 'nats'])
    expect(await failureOf(`${kind}://127.0.0.1:${port}`)).toMatchObject({ code: 'unavailable', unreached: true });
});

test('who takes a connection and cuts it has answered', { timeout: 60_000 }, async () => {
  const port = await listening(createServer((socket) => void socket.resetAndDestroy()));
  for (const kind of ['grpc', 'http'])
    expect(await failureOf(`${kind}://127.0.0.1:${port}`)).toMatchObject({ code: 'unavailable', unreached: false });
});

test('a server that refuses says when to come back', async () => {
  const server = createHttpServer((_, response) => void response.writeHead(503, { 'Retry-After': '7' }).end('later'));
  const error = await failureOf(`http://127.0.0.1:${await listening(server)}`);
  expect(error).toMatchObject({ code: 'unavailable', unreached: false, retryAfterMs: 7_000, message: 'later' });
});

// Where the other side's queue is full the system drops what asks for a connection, as a network that swallows packets does.
const DEAF = `
  const server = require('node:net').createServer();
  server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
    require('node:fs').writeSync(1, String(server.address().port));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  });`;

test('a connection that does not come about is given up and dialled anew', { timeout: 60_000 }, async () => {
  const child = spawn(process.execPath, ['-e', DEAF], { stdio: ['ignore', 'pipe', 'inherit'] });
  closers.push(() => child.kill('SIGKILL'));
  const port = Number(
    await new Promise<string>((resolve) => child.stdout.once('data', (text) => resolve(String(text)))),
  );
  for (let i = 0; i < 4; i++) {
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    closers.push(() => socket.destroy());
  }
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(await failureOf(`grpc://127.0.0.1:${port}`)).toMatchObject({ code: 'unavailable' });
});

test('what is behind an error is looked at, and no further than makes sense', () => {
  const behind = new TypeError('fetch failed', {
    cause: new AggregateError([new Error('connect ECONNREFUSED ::1:80')]),
  });
  expect(saysUnreached(behind)).toBe(true);
  expect(saysUnreached(Object.assign(new Error('x'), { code: 'EAI_AGAIN' }))).toBe(true);
  expect(saysUnreached(new TypeError('fetch failed', { cause: new Error('read ECONNRESET') }))).toBe(false);
  const round = new Error('round');
  round.cause = round;
  expect(saysUnreached(round)).toBe(false);
  expect(saysUnreached('ECONNREFUSED')).toBe(false);
});
