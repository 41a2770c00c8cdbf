import type {
  DescMessage,
  DescMethodClientStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import {
  AdminService,
  CHUNK_BYTES_MAX,
  grpcMethods,
  MESSAGE_BYTES_MAX,
  type GrpcMethod,
  type ImportModelResponse,
} from '@commonweight/proto';
import { Client, credentials, status, type ServiceError as GrpcError } from '@grpc/grpc-js';
import { ServiceError, type ServiceErrorCode } from '../service.ts';

const DEADLINE_MS = 20_000;
/** Of what takes long by itself: large models, and their forms. A leader that is gone is noticed meanwhile. */
const LONG_DEADLINE_MS = 600_000;
const OPTIONS = {
  'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
};

const CODES: Partial<Record<status, ServiceErrorCode>> = {
  [status.NOT_FOUND]: 'not-found',
  [status.ALREADY_EXISTS]: 'already-exists',
  [status.INVALID_ARGUMENT]: 'invalid',
  [status.RESOURCE_EXHAUSTED]: 'resource-exhausted',
};

type Unary<I extends DescMessage, O extends DescMessage> = DescMethodUnary<I, O>;

/** Asks the coordinator that leads for what only it may do. */
export class LeaderClient {
  readonly #addressOf: () => Promise<string | undefined>;
  #client: { address: string; client: Client } | undefined;

  constructor(addressOf: () => Promise<string | undefined>) {
    this.#addressOf = addressOf;
  }

  /** Throws the leader's ServiceError, or `unavailable` where none leads. */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: Unary<I, O>,
    request: MessageInitShape<I>,
    { isLong = false }: { isLong?: boolean } = {},
  ): Promise<MessageShape<O>> {
    const client = await this.#connected();
    const { path, requestSerialize, responseDeserialize } = methodOf(method);
    return new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        path,
        requestSerialize as (value: MessageShape<I>) => Buffer,
        responseDeserialize as (bytes: Buffer) => MessageShape<O>,
        create(method.input, request),
        { deadline: Date.now() + (isLong ? LONG_DEADLINE_MS : DEADLINE_MS) },
        (error, response) => (response === undefined ? reject(ours(error)) : resolve(response)),
      );
    });
  }

  async importModel(model: string, onnx: Uint8Array): Promise<ImportModelResponse> {
    const client = await this.#connected();
    const method: DescMethodClientStreaming = AdminService.method.importModel;
    const { path, requestSerialize, responseDeserialize } = methodOf(method);
    return new Promise((resolve, reject) => {
      const call = client.makeClientStreamRequest(
        path,
        requestSerialize as (value: unknown) => Buffer,
        responseDeserialize as (bytes: Buffer) => ImportModelResponse,
        { deadline: Date.now() + LONG_DEADLINE_MS },
        (error, response) => (response === undefined ? reject(ours(error)) : resolve(response)),
      );
      // What it fails of is said by the answer.
      call.on('error', () => {});
      for (let at = 0; at === 0 || at < onnx.length; at += CHUNK_BYTES_MAX) {
        const data = onnx.subarray(at, at + CHUNK_BYTES_MAX);
        call.write(create(AdminService.method.importModel.input, { model, data }));
      }
      call.end();
    });
  }

  close(): void {
    this.#client?.client.close();
  }

  async #connected(): Promise<Client> {
    const address = await this.#addressOf();
    if (address === undefined) throw nobody();
    if (this.#client?.address !== address) {
      this.#client?.client.close();
      this.#client = { address, client: new Client(address, credentials.createInsecure(), OPTIONS) };
    }
    return this.#client.client;
  }
}

function methodOf(method: DescMethodUnary | DescMethodClientStreaming): GrpcMethod {
  const found = grpcMethods(method.parent)[method.localName];
  if (found === undefined) throw new Error(`${method.name} is no call of its service`);
  return found;
}

const nobody = (options?: ErrorOptions): ServiceError =>
  new ServiceError('unavailable', 'no coordinator leads at the moment: try again in a few seconds', options);

function ours(error: GrpcError | null): ServiceError {
  if (error?.code === status.DEADLINE_EXCEEDED)
    return new ServiceError(
      'unavailable',
      'the coordinator that leads did not answer in time: look whether it was done, and try again',
      { cause: error },
    );
  const code = error === null ? undefined : CODES[error.code];
  return code === undefined ? nobody({ cause: error }) : new ServiceError(code, error?.details ?? '', { cause: error });
}
