import {
  create,
  type DescMessage,
  type DescMethod,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import {
  AgentService,
  CHUNK_BYTES_MAX,
  grpcMethods,
  MESSAGE_BYTES_MAX,
  RelayService,
  SessionRequestSchema,
  type AgentServiceDownloadResponse,
  type GetFoldingResponse,
  type GetUpdateStatusResponse,
  type Hello,
  type SessionResponse,
  type SubmitPartResponse,
  type SubmitUpdateResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import { Client, credentials, Metadata, status, type ServiceError as GrpcError } from '@grpc/grpc-js';
import { ServiceError, type ServiceErrorCode } from '../service.ts';
import type { PackedPart } from './packed-part.ts';

/** How often the coordinator is asked whether it is there. */
const GREET_MS = 2_000;
/** How long it may take to answer that; one that hangs is gone. */
const GREET_DEADLINE_MS = 5_000;
const UNARY_DEADLINE_MS = 20_000;
const UPLOAD_DEADLINE_MS = 600_000;
/** Below the streams that a coordinator takes on one connection. */
const SESSIONS_PER_CONNECTION = 100;
/** Headers in one message of a part. */
const HEADERS_PER_MESSAGE = 64;

const OPTIONS = {
  'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
  // The retry buffer would keep every chunk of an upload in memory.
  'grpc.enable_retries': 0,
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.initial_reconnect_backoff_ms': 200,
  'grpc.min_reconnect_backoff_ms': 200,
  'grpc.max_reconnect_backoff_ms': 3_000,
  'grpc-node.flow_control_window': 8 * 1024 * 1024,
  'grpc.use_local_subchannel_pool': 1,
};

const CODES: Partial<Record<status, ServiceErrorCode>> = {
  [status.NOT_FOUND]: 'not-found',
  [status.ALREADY_EXISTS]: 'already-exists',
  [status.INVALID_ARGUMENT]: 'invalid',
  [status.RESOURCE_EXHAUSTED]: 'resource-exhausted',
};

/** What an agent says in a session. */
type SessionMessage = NonNullable<MessageInitShape<typeof SessionRequestSchema>['message']>;

export interface UpSession {
  send(message: SessionMessage): void;
  close(): void;
}

export interface UpSessionListener {
  onMessage(message: SessionResponse): void;
  onEnd(error: ServiceError | undefined): void;
}

interface UplinkListener {
  /** Whether who signs with this key is the coordinator. */
  trusts(publicKey: Uint8Array): boolean;
  /** The coordinator is there (again). */
  onUp(): void;
  onDown(why: string): void;
}

/** What a relay asks of its coordinator. */
export type Upward = Pick<
  Uplink,
  'isUp' | 'openSession' | 'updateStatus' | 'folding' | 'ask' | 'submit' | 'submitPart'
>;

/** A relay's connections to its coordinator: where that is away, calls throw ServiceError `unavailable` at once. */
export class Uplink {
  readonly #target: string;
  readonly #url: string;
  readonly #listener: UplinkListener;
  #calls: Client | undefined;
  #sessions: { client: Client; open: number }[] = [];
  #isUp = false;
  /** Why it is not, once that is known. */
  #why = '';
  #isClosed = false;
  #greeting: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `url`: `grpc://HOST:PORT`, with `,HOST:PORT` for each further coordinator. */
  constructor(url: string, listener: UplinkListener) {
    this.#url = url;
    this.#target = targetOf(url);
    this.#listener = listener;
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  /** Begins to look for the coordinator, and goes on with that until it is closed. Gives why it is not there at the first look. */
  async start(): Promise<string | undefined> {
    this.#timer = setInterval(() => void this.look(), GREET_MS);
    await this.look();
    return this.#isUp ? undefined : this.#why;
  }

  /** Looks whether the coordinator is there. */
  look(): Promise<void> {
    this.#greeting ??= this.#greet().finally(() => (this.#greeting = undefined));
    return this.#greeting;
  }

  async #greet(): Promise<void> {
    if (this.#isClosed) return;
    try {
      const { publicKey } = await this.#unary(RelayService.method.greet, { software: SOFTWARE }, GREET_DEADLINE_MS);
      if (this.#isClosed) return;
      if (!this.#listener.trusts(publicKey)) throw new ServiceError('invalid', 'it signs with another key than before');
      if (this.#isUp) return;
      this.#isUp = true;
      this.#listener.onUp();
    } catch (error) {
      if (this.#isClosed) return;
      const wasUp = this.#isUp;
      this.#isUp = false;
      this.#why = inWords((error as Error).message);
      this.#cut();
      if (wasUp) this.#listener.onDown(this.#why);
    }
  }

  openSession(hello: Hello, { onMessage, onEnd }: UpSessionListener): UpSession {
    const connection = this.#connection();
    connection.open += 1;
    const { path, requestSerialize, responseDeserialize } = wireOf(AgentService.method.session);
    const call = connection.client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, new Metadata());
    let isOver = false;
    const end = (error: ServiceError | undefined): void => {
      if (isOver) return;
      isOver = true;
      connection.open -= 1;
      onEnd(error);
    };
    call.on('data', (message) => onMessage(message as SessionResponse));
    call.on('error', (error) => end(this.#ours(error as GrpcError)));
    call.on('end', () => end(undefined));
    const { sessionId } = hello;
    const send = (message: SessionMessage): void => {
      if (!isOver && call.writable) call.write(create(SessionRequestSchema, { sessionId, message }));
    };
    send({ case: 'hello', value: hello });
    return { send, close: () => (isOver ? undefined : call.end()) };
  }

  async *download(digest: Uint8Array): AsyncIterable<{ totalSize: number; data: Uint8Array }> {
    this.#requireUp();
    const { path, requestSerialize, responseDeserialize } = wireOf(AgentService.method.download);
    const request = create(AgentService.method.download.input, { digest });
    const call = this.#client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
    // What it fails of is thrown by the iteration.
    call.on('error', () => {});
    try {
      for await (const chunk of call as AsyncIterable<AgentServiceDownloadResponse>) {
        yield { totalSize: Number(chunk.totalSize), data: chunk.data };
      }
    } catch (error) {
      throw this.#ours(error as GrpcError);
    } finally {
      call.cancel();
    }
  }

  updateStatus(updateId: Uint8Array): Promise<GetUpdateStatusResponse> {
    this.#requireUp();
    return this.#unary(AgentService.method.getUpdateStatus, { updateId });
  }

  folding(task: string, round: number): Promise<GetFoldingResponse> {
    this.#requireUp();
    return this.#unary(RelayService.method.getFolding, { task, round: BigInt(round) });
  }

  /** Sends an update. */
  submit(header: UpdateHeader, payload: Uint8Array): Promise<SubmitUpdateResponse> {
    return this.#upload(AgentService.method.submitUpdate, function* () {
      for (let at = 0; at === 0 || at < payload.length; at += CHUNK_BYTES_MAX) {
        const data = payload.subarray(at, at + CHUNK_BYTES_MAX);
        yield { offset: BigInt(at), data, ...(at === 0 ? { header } : {}) };
      }
    });
  }

  /** Sends the header of an update alone: where the coordinator would refuse it, or has it, that is the answer. */
  ask(header: UpdateHeader): Promise<SubmitUpdateResponse> {
    return this.submit(header, new Uint8Array());
  }

  submitPart({ header, updates, sum }: PackedPart): Promise<SubmitPartResponse> {
    return this.#upload(RelayService.method.submitPart, function* () {
      for (let at = 0; at < updates.length; at += HEADERS_PER_MESSAGE)
        yield { updates: updates.slice(at, at + HEADERS_PER_MESSAGE), ...(at === 0 ? { header } : {}) };
      for (let at = 0; at < sum.length; at += CHUNK_BYTES_MAX) yield { data: sum.subarray(at, at + CHUNK_BYTES_MAX) };
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#isUp = false;
    clearInterval(this.#timer);
    this.#cut();
  }

  async #upload<I extends DescMessage, O extends DescMessage>(
    method: DescMethod & { input: I; output: O },
    messages: () => Generator<MessageInitShape<I>>,
  ): Promise<MessageShape<O>> {
    this.#requireUp();
    const { path, requestSerialize, responseDeserialize } = wireOf(method);
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<O>>();
    let isAnswered = false;
    const call = this.#client.makeClientStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      new Metadata(),
      { deadline: Date.now() + UPLOAD_DEADLINE_MS },
      (error, response) => {
        isAnswered = true;
        if (error === null) resolve(response as MessageShape<O>);
        else reject(this.#ours(error));
      },
    );
    promise.catch(() => {});
    for (const message of messages()) {
      // The answer may come early, with a refusal.
      if (isAnswered) break;
      if (call.write(create(method.input, message))) continue;
      await Promise.race([new Promise((drained) => call.once('drain', drained)), promise.catch(() => {})]);
    }
    call.end();
    return promise;
  }

  #unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethod & { input: I; output: O },
    request: MessageInitShape<I>,
    deadlineMs = UNARY_DEADLINE_MS,
  ): Promise<MessageShape<O>> {
    const { path, requestSerialize, responseDeserialize } = wireOf(method);
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        create(method.input, request),
        { deadline: Date.now() + deadlineMs },
        (error, response) => (error === null ? resolve(response as MessageShape<O>) : reject(this.#ours(error))),
      );
    });
  }

  get #client(): Client {
    return (this.#calls ??= new Client(this.#target, credentials.createInsecure(), OPTIONS));
  }

  #connection(): { client: Client; open: number } {
    const free = this.#sessions.find(({ open }) => open < SESSIONS_PER_CONNECTION);
    if (free !== undefined) return free;
    const made = { client: new Client(this.#target, credentials.createInsecure(), OPTIONS), open: 0 };
    this.#sessions.push(made);
    return made;
  }

  /** A connection that is half open would keep its sessions for long. */
  #cut(): void {
    this.#calls?.close();
    for (const { client } of this.#sessions) client.close();
    this.#calls = undefined;
    this.#sessions = [];
  }

  #requireUp(): void {
    if (!this.#isUp) throw new ServiceError('unavailable', `the relay cannot reach ${this.#url}: try again`);
  }

  #ours(error: GrpcError): ServiceError {
    if (error.code === status.UNIMPLEMENTED) {
      const why = `the coordinator at ${this.#url} is of a version before relays: start a newer one`;
      return new ServiceError('unavailable', why, { cause: error });
    }
    const code = CODES[error.code] ?? 'unavailable';
    // Whether it is one call or the link that failed, the next look says.
    if (code === 'unavailable' && this.#isUp) void this.look();
    return new ServiceError(code, error.details || error.message, { cause: error });
  }
}

const SOFTWARE = '0.1.0';

/** The library wraps the system's word in sentences of its own. */
const inWords = (details: string): string => /(?:connect|read|write|getaddrinfo) E[A-Z]+/.exec(details)?.[0] ?? details;

/** One address, or several of which a connection takes the first that is there. */
function targetOf(url: string): string {
  const addresses = url
    .replace(/^grpc:\/\//, '')
    .replace(/\/$/, '')
    .split(',');
  if (addresses.length === 1) return addresses[0]!;
  return `ipv4:${addresses.map((address) => address.replace(/^localhost:/, '127.0.0.1:')).join(',')}`;
}

interface Wire {
  path: string;
  requestSerialize(message: unknown): Buffer;
  responseDeserialize(bytes: Buffer): unknown;
}

function wireOf(method: DescMethod): Wire {
  const found = grpcMethods(method.parent)[method.localName];
  if (found === undefined) throw new Error(`${method.name} is no call of its service`);
  return found as unknown as Wire;
}
