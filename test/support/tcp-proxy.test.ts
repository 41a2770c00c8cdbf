import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { until } from './processes.ts';
import { TcpProxy, type TcpProxyOptions } from './tcp-proxy.ts';

/** Says everything again that it hears. */
let echo: Server;
const open: (() => unknown)[] = [];

beforeEach(async () => {
  echo = createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => {}).pipe(socket));
  await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close();
  await new Promise((resolve) => echo.close(resolve));
});

const portOf = (server: Server): number => (server.address() as { port: number }).port;

async function proxyOf(options: TcpProxyOptions = {}): Promise<TcpProxy> {
  const proxy = await TcpProxy.open(portOf(echo), options);
  open.push(() => proxy.close());
  return proxy;
}

interface Caller {
  socket: Socket;
  heard(): Buffer;
  failure(): string | undefined;
  ended(): boolean;
}

function call(proxy: TcpProxy): Caller {
  const socket = connect(proxy.port, '127.0.0.1');
  open.push(() => socket.destroy());
  const parts: Buffer[] = [];
  let failure: string | undefined;
  let ended = false;
  socket.on('data', (data: Buffer) => parts.push(data));
  socket.on('error', (error: NodeJS.ErrnoException) => (failure = error.code));
  socket.on('end', () => (ended = true));
  return { socket, heard: () => Buffer.concat(parts), failure: () => failure, ended: () => ended };
}

const message = (bytes: number): Buffer => Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (i * 31) & 255));

test('late, in pieces and slow, every byte comes through in its order, and so does the end', async () => {
  const weather = { latencyMs: 2, jitterMs: 5, pieceBytesMax: 1000, bytesPerSecond: 2_000_000 };
  const proxy = await proxyOf({ weather });
  const caller = call(proxy);
  const sent = message(200_000);
  caller.socket.end(sent);
  await until('the end', 10_000, caller.ended);
  expect(caller.heard().equals(sent)).toBe(true);
  expect(proxy.passed).toEqual({ up: sent.length, down: sent.length });
  await until('the connection to be over', 5000, () => proxy.open === 0);
});

test('a bandwidth is kept to', async () => {
  const proxy = await proxyOf({ weather: { bytesPerSecond: 100_000 } });
  const caller = call(proxy);
  const beganMs = performance.now();
  caller.socket.end(message(40_000));
  await until('the end', 10_000, caller.ended);
  // 40 kB at 100 kB/s, for the way up and the way down one after the other.
  expect(performance.now() - beganMs).toBeGreaterThan(400);
});

test('a frozen link takes no more than its bound, and loses nothing', async () => {
  const proxy = await proxyOf();
  const caller = call(proxy);
  caller.socket.write('a');
  await until('an echo', 5000, () => caller.heard().length === 1);
  proxy.freeze();
  const sent = message(30_000_000);
  caller.socket.end(sent);
  const waiting = (): number => caller.socket.writableLength;
  await until('the sender to feel it', 5000, () => waiting() > 0);
  expect(caller.heard().length).toBe(1);
  proxy.thaw();
  await until('the end', 20_000, caller.ended);
  expect(caller.heard().subarray(1).equals(sent)).toBe(true);
});

test('a half-open link swallows one way while the connection stays', async () => {
  const proxy = await proxyOf();
  const caller = call(proxy);
  caller.socket.write('a');
  await until('an echo', 5000, () => caller.heard().length === 1);
  proxy.swallowed.add('down');
  caller.socket.write('b');
  await until('the other side to hear', 5000, () => proxy.passed.up === 2);
  proxy.swallowed.clear();
  caller.socket.write('c');
  await until('an echo', 5000, () => caller.heard().length === 2);
  expect(String(caller.heard())).toBe('ac');
  expect(caller.failure()).toBeUndefined();
});

test('resets reach both sides, and a link that refuses resets who comes', async () => {
  const proxy = await proxyOf();
  const caller = call(proxy);
  caller.socket.write('a');
  await until('an echo', 5000, () => caller.heard().length === 1);
  expect(proxy.reset()).toBe(1);
  await until('the reset', 5000, () => caller.failure() === 'ECONNRESET');
  proxy.refuses = true;
  const refused = call(proxy);
  await until('the refusal', 5000, () => refused.failure() === 'ECONNRESET');
  expect(proxy.open).toBe(0);
});

test('the same seed damages the same bits of the same pieces', async () => {
  const heardOf = async (seed: number): Promise<Buffer> => {
    const proxy = await proxyOf({ seed, weather: { damage: 1 } });
    const caller = call(proxy);
    caller.socket.end('hello');
    await until('the end', 5000, caller.ended);
    return caller.heard();
  };
  const [first, again, other] = [await heardOf(1), await heardOf(1), await heardOf(2)];
  expect(first).not.toEqual(Buffer.from('hello'));
  expect(first).toEqual(again);
  expect(first).not.toEqual(other);
});
