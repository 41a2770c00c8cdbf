import { once } from 'node:events';
import { connect, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { connect as connectTo, type Socket } from 'node:net';
import { Server, ServerCredentials, type ServerReadableStream } from '@grpc/grpc-js';
import { expect, onTestFinished, test } from 'vitest';
import { until } from '../../../../test/support/processes.ts';
import { inTurn, widenConnections } from './flow-control.ts';

const PATH = '/test.Uploads/Send';
const AT_ONCE = 16;
const NARROW = 16_384;
const bytes = (value: Buffer): Buffer => value;

/** A server whose one call takes messages of a client and answers when there are no more. */
async function uploads(): Promise<number> {
  const server = new Server({
    interceptors: [inTurn({ inTurns: [PATH], atOnce: [] }, (_method, call) => call as never)],
  });
  widenConnections(server);
  const method = {
    path: PATH,
    requestStream: true,
    responseStream: false,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  } as const;
  const send = async (
    call: ServerReadableStream<Buffer, Buffer>,
    answer: (error: null, value: Buffer) => void,
  ): Promise<void> => {
    try {
      for await (const message of call as AsyncIterable<Buffer>) expect(message.length).toBeGreaterThan(0);
    } catch (error) {
      // Who has left gets no answer.
      if ((error as NodeJS.ErrnoException).code === 'ERR_STREAM_PREMATURE_CLOSE') return;
      throw error;
    }
    answer(null, Buffer.from('ok'));
  };
  server.addService({ send: method }, { send });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  onTestFinished(() => server.forceShutdown());
  return port;
}

class Sender {
  readonly windows: number[] = [];
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  isAnswered = false;

  constructor(port: number) {
    this.#session = connect(`http://127.0.0.1:${port}`);
    this.#session.on('remoteSettings', ({ initialWindowSize }) => this.windows.push(initialWindowSize!));
    onTestFinished(() => this.#session.destroy());
    this.#stream = this.#session.request({
      ':method': 'POST',
      ':path': PATH,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    this.#stream.on('data', () => (this.isAnswered = true));
  }

  /** A message of so many bytes, in a frame of gRPC. */
  send(length: number): void {
    const frame = Buffer.alloc(5 + length, 7);
    frame.writeUInt8(0, 0);
    frame.writeUInt32BE(length, 1);
    this.#stream.write(frame);
  }

  end(): void {
    this.#stream.end();
  }
}

test('who goes silent in its turn is narrow until it has another, all have turns, and all are read to their ends', async () => {
  const port = await uploads();
  const senders = Array.from({ length: AT_ONCE + 4 }, () => new Sender(port));
  for (const sender of senders) sender.send(100);
  // What was wide, was narrowed, and is wide again.
  const hadTwoTurns = ({ windows }: Sender): boolean => {
    const first = windows.findIndex((window) => window > NARROW);
    const narrowed = windows.indexOf(NARROW, first);
    return first >= 0 && narrowed >= 0 && windows.slice(narrowed).some((window) => window > NARROW);
  };
  await until('two turns of each', 60_000, () => senders.every(hadTwoTurns));
  for (const sender of senders) sender.send(300_000);
  for (const sender of senders) sender.end();
  await until('all answers', 60_000, () => senders.every(({ isAnswered }) => isAnswered));
});

/** A peer that begins a call and then neither sends nor acknowledges anything. */
function mute(port: number): Socket {
  const text = (value: string): Buffer => Buffer.concat([Buffer.of(value.length), Buffer.from(value)]);
  const block = Buffer.concat([
    // :method POST, :scheme http, :path, :authority, content-type, te (RFC 7541, literals without indexing).
    Buffer.of(0x83, 0x86, 0x04),
    text(PATH),
    Buffer.of(0x01),
    text('x'),
    Buffer.of(0x0f, 0x10),
    text('application/grpc'),
    Buffer.of(0x00),
    text('te'),
    text('trailers'),
  ]);
  const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer =>
    Buffer.concat([Buffer.of(0, 0, payload.length, type, flags, 0, 0, 0, stream), payload]);
  const socket = connectTo(port, '127.0.0.1');
  socket.on('error', () => {});
  onTestFinished(() => void socket.destroy());
  socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0, Buffer.alloc(0))]));
  // SETTINGS, then HEADERS that end the block and not the stream.
  socket.write(frame(1, 4, 1, block));
  return socket;
}

test('peers that acknowledge no change of their window hold up nobody, and end nothing but themselves', async () => {
  const port = await uploads();
  const peers = Array.from({ length: AT_ONCE + 8 }, () => mute(port));
  const heard = peers.map((peer) => once(peer, 'data'));
  await Promise.all(heard);
  // Long enough for more changes than may go unanswered.
  await new Promise((resolve) => setTimeout(resolve, 12_000));
  const sender = new Sender(port);
  sender.send(300_000);
  sender.end();
  await until('an answer', 60_000, () => sender.isAnswered);
}, 120_000);
