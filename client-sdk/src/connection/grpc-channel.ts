import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import { grpcMethods, MESSAGE_BYTES_MAX, type GrpcMethod } from '@commonweight/proto';
import { Client, Metadata, status, type ServiceError } from '@grpc/grpc-js';
import { TransportError, type TransportCode } from '../errors.ts';
import { plainWithin } from './connect-timeout.ts';
import { DialledClient } from './dialled-client.ts';
import { saysUnreached } from './unreached.ts';
import { requireLoopback } from './url.ts';

/** A method of a generated service, by kind and message types. */
export type MethodOf<
  Kind extends DescMethod['methodKind'],
  I extends DescMessage,
  O extends DescMessage,
> = DescMethod & {
  methodKind: Kind;
  input: I;
  output: O;
};

export interface CallOptions {
  deadlineMs?: number;
  signal?: AbortSignal;
}

/** What the server sends. Reading it applies backpressure; a failure is thrown from the iteration. */
export interface ServerStream<O extends DescMessage> extends AsyncIterable<MessageShape<O>> {
  cancel(): void;
}

/** What the client sends. `write` resolves when there is room for more. */
export interface ClientStream<I extends DescMessage, O extends DescMessage> {
  write(message: MessageInitShape<I>): Promise<void>;
  /** Ends the stream and waits for the answer. */
  finish(): Promise<MessageShape<O>>;
  /** Settles when the server has answered or failed, which it may do before the stream ended. */
  response: Promise<MessageShape<O>>;
  cancel(): void;
}

export interface BidiStream<I extends DescMessage, O extends DescMessage> extends ServerStream<O> {
  write(message: MessageInitShape<I>): Promise<void>;
  /** No more messages from this side. */
  end(): void;
}

/** Typed calls over one gRPC connection, which reconnects by itself. */
export interface GrpcChannel {
  unary<I extends DescMessage, O extends DescMessage>(
    method: MethodOf<'unary', I, O>,
    request: MessageInitShape<I>,
    options?: CallOptions,
  ): Promise<MessageShape<O>>;
  serverStream<I extends DescMessage, O extends DescMessage>(
    method: MethodOf<'server_streaming', I, O>,
    request: MessageInitShape<I>,
    options?: CallOptions,
  ): ServerStream<O>;
  clientStream<I extends DescMessage, O extends DescMessage>(
    method: MethodOf<'client_streaming', I, O>,
    options?: CallOptions,
  ): ClientStream<I, O>;
  bidi<I extends DescMessage, O extends DescMessage>(
    method: MethodOf<'bidi_streaming', I, O>,
    options?: CallOptions,
  ): BidiStream<I, O>;
  close(): void;
}

const UNARY_DEADLINE_MS = 20_000;
const CONNECT_TIMEOUT_MS = 2_000;
/** How long a connection may take to come about, over all addresses. */
const DIAL_MS = 4_000;

const CHANNEL_OPTIONS = {
  'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
  // The retry buffer would keep every chunk of an upload in memory.
  'grpc.enable_retries': 0,
  // A link that went silent is noticed within 15 s, as over NATS.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  // Callers pace themselves with Backoff; the channel only has to be ready when they come.
  'grpc.initial_reconnect_backoff_ms': 200,
  'grpc.min_reconnect_backoff_ms': 200,
  'grpc.max_reconnect_backoff_ms': 3000,
  // The default of 64 KiB a round trip caps downloads at 1 MB/s over 40 ms.
  'grpc-node.flow_control_window': 16 * 1024 * 1024,
  // Channels to the same address do not share a broken connection.
  'grpc.use_local_subchannel_pool': 1,
};

/** How long the other side may be silent where it has large work to do at once. */
export interface ChannelOptions {
  silentMsMax?: number;
}

/** Opens a channel to `grpc://127.0.0.1:PORT`, or to one of several. Connecting happens with the first call. */
export function openGrpcChannel(url: string, { silentMsMax }: ChannelOptions = {}): GrpcChannel {
  const patience = silentMsMax === undefined ? {} : { 'grpc.keepalive_timeout_ms': silentMsMax };
  const target = targetOf(url);
  const dialled = new DialledClient(
    () => new Client(target, plainWithin(CONNECT_TIMEOUT_MS), { ...CHANNEL_OPTIONS, ...patience }),
    DIAL_MS,
  );
  return {
    unary(method, request, options = {}) {
      const { path, requestSerialize, responseDeserialize } = wireOf(method);
      return new Promise((resolve, reject) => {
        const call = dialled
          .client()
          .makeUnaryRequest(
            path,
            requestSerialize,
            responseDeserialize,
            create(method.input, request),
            new Metadata(),
            { deadline: Date.now() + (options.deadlineMs ?? UNARY_DEADLINE_MS) },
            (error, response) =>
              error === null ? resolve(response as MessageShape<typeof method.output>) : reject(fromGrpc(error, url)),
          );
        cancelOn(call, options.signal);
      });
    },
    serverStream(method, request, options = {}) {
      const { path, requestSerialize, responseDeserialize } = wireOf(method);
      const call = dialled
        .client()
        .makeServerStreamRequest(
          path,
          requestSerialize,
          responseDeserialize,
          create(method.input, request),
          new Metadata(),
          deadlineOf(options),
        );
      cancelOn(call, options.signal);
      return readable<typeof method.output>(call as unknown as Readable, url);
    },
    clientStream(method, options = {}) {
      const { path, requestSerialize, responseDeserialize } = wireOf(method);
      const answer = Promise.withResolvers<MessageShape<typeof method.output>>();
      const call = dialled
        .client()
        .makeClientStreamRequest(
          path,
          requestSerialize,
          responseDeserialize,
          new Metadata(),
          deadlineOf(options),
          (error, response) =>
            error === null
              ? answer.resolve(response as MessageShape<typeof method.output>)
              : answer.reject(fromGrpc(error, url)),
        );
      answer.promise.catch(() => {});
      cancelOn(call, options.signal);
      const write = writer(call as unknown as Writable, answer.promise, url);
      return {
        write: (message) => write(create(method.input, message)),
        finish: () => {
          call.end();
          return answer.promise;
        },
        response: answer.promise,
        cancel: () => call.cancel(),
      };
    },
    bidi(method, options = {}) {
      const { path, requestSerialize, responseDeserialize } = wireOf(method);
      const call = dialled
        .client()
        .makeBidiStreamRequest(path, requestSerialize, responseDeserialize, new Metadata(), deadlineOf(options));
      cancelOn(call, options.signal);
      const ended = new Promise<void>((resolve) => call.once('status', () => resolve()));
      const write = writer(call as unknown as Writable, ended, url);
      return {
        ...readable<typeof method.output>(call as unknown as Readable, url),
        write: (message) => write(create(method.input, message)),
        end: () => call.end(),
      };
    },
    close: () => dialled.close(),
  };
}

/** One address, or several of which the channel takes the first that is there; shuffled, so that clients spread. */
function targetOf(url: string): string {
  const { addresses } = requireLoopback(url);
  const [first] = addresses;
  if (first !== undefined && addresses.length === 1) return `${first.host}:${first.port}`;
  const numeric = addresses.map(({ host, port }) => ({ host: host === 'localhost' ? '127.0.0.1' : host, port }));
  const family = numeric[0]?.host.startsWith('[') === true ? 'ipv6' : 'ipv4';
  if (numeric.some(({ host }) => host.startsWith('[') !== (family === 'ipv6'))) {
    throw new TypeError(`'${url}' mixes IPv4 and IPv6: name all coordinators in one of them`);
  }
  const shuffled = numeric
    .map((address) => ({ address, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ address: { host, port } }) => `${host}:${port}`);
  return `${family}:${shuffled.join(',')}`;
}

interface Wire {
  path: string;
  requestSerialize(message: unknown): Buffer;
  responseDeserialize(bytes: Buffer): unknown;
}

const services = new WeakMap<DescMethod['parent'], Record<string, GrpcMethod>>();

/** The codecs of a method; a service's are made once. */
function wireOf(method: DescMethod): Wire {
  let methods = services.get(method.parent);
  if (methods === undefined) services.set(method.parent, (methods = grpcMethods(method.parent)));
  return methods[method.localName] as unknown as Wire;
}

interface Cancellable {
  cancel(): void;
  once(event: 'status', listener: () => void): unknown;
}
type Readable = Cancellable & AsyncIterable<unknown> & { on(event: 'error', listener: () => void): unknown };
type Writable = Cancellable & {
  write(message: unknown): boolean;
  once(event: 'drain', listener: () => void): unknown;
  removeListener(event: 'drain', listener: () => void): unknown;
  writable: boolean;
};

const deadlineOf = ({ deadlineMs }: CallOptions): { deadline?: number } =>
  deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };

function cancelOn(call: Cancellable, signal: AbortSignal | undefined): void {
  if (signal === undefined) return;
  if (signal.aborted) return call.cancel();
  const cancel = (): void => call.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  call.once('status', () => signal.removeEventListener('abort', cancel));
}

function readable<O extends DescMessage>(call: Readable, url: string): ServerStream<O> {
  // An error after the reader has left would otherwise end the process.
  call.on('error', () => {});
  return {
    cancel: () => call.cancel(),
    async *[Symbol.asyncIterator]() {
      try {
        for await (const message of call) yield message as MessageShape<O>;
      } catch (error) {
        throw fromGrpc(error as ServiceError, url);
      } finally {
        call.cancel();
      }
    },
  };
}

/** Writes one message and waits for room, or for the end of the call, whichever is first. */
function writer(call: Writable, ended: Promise<unknown>, url: string): (message: unknown) => Promise<void> {
  let over = false;
  const over$ = ended.then(
    () => void (over = true),
    () => void (over = true),
  );
  return async (message) => {
    if (over || !call.writable) throw new TransportError('unavailable', `the stream to ${url} is closed`);
    if (call.write(message)) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    call.once('drain', resolve);
    await Promise.race([promise, over$]);
    call.removeListener('drain', resolve);
  };
}

const CODES: Partial<Record<status, TransportCode>> = {
  [status.UNAVAILABLE]: 'unavailable',
  [status.DEADLINE_EXCEEDED]: 'deadline',
  [status.CANCELLED]: 'cancelled',
  [status.NOT_FOUND]: 'not-found',
  [status.ALREADY_EXISTS]: 'already-exists',
  [status.INVALID_ARGUMENT]: 'invalid',
  [status.FAILED_PRECONDITION]: 'invalid',
  [status.UNIMPLEMENTED]: 'invalid',
  [status.RESOURCE_EXHAUSTED]: 'resource-exhausted',
};

/** The library wraps the system's word in sentences of its own. */
const inWords = (details: string): string =>
  details === NEVER_CONNECTED
    ? 'no connection came about'
    : (/(?:connect|read|write|getaddrinfo) E[A-Z]+|no answer within \d+ ms/.exec(details)?.[0] ?? details);
/** What calls end with that waited for a connection. */
const NEVER_CONNECTED = 'Channel closed before call started';

function fromGrpc(cause: ServiceError, url: string): TransportError {
  const code = CODES[cause.code] ?? 'internal';
  const text = inWords(cause.details || cause.message);
  if (code !== 'unavailable') return new TransportError(code, text, { cause });
  const unreached = cause.details === NEVER_CONNECTED || saysUnreached(cause);
  return new TransportError(code, `cannot reach ${url}: ${text}`, { cause, unreached });
}
