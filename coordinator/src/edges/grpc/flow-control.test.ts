import { connect, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { Server, ServerCredentials, type ServerReadableStream } from '@grpc/grpc-js';
import { expect, onTestFinished, test } from 'vitest';
import { until } from '../../../../test/support/processes.ts';
import { inTurn, widenConnections } from './flow-control.ts';

const PATH = '/test.Uploads/Send';
const AT_ONCE = 16;
const NARROW = 65_535;
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
    for await (const message of call as AsyncIterable<Buffer>) expect(message.length).toBeGreaterThan(0);
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
