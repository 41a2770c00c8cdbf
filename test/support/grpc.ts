import type { DescService } from '@bufbuild/protobuf';
import { grpcMethods } from '@commonweight/proto';
import {
  Client,
  credentials,
  makeGenericClientConstructor,
  type ChannelOptions,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ServiceDefinition,
  type ServiceError,
} from '@grpc/grpc-js';

/** A stock gRPC client of one service, whose methods go by local name. */
export interface GrpcClient {
  unary<O>(method: string, request: unknown): Promise<O>;
  reads<O>(method: string, request: unknown): ClientReadableStream<O>;
  /** A stream of requests: bidirectional, or with one answer that `done` gets. */
  writes<I, O>(method: string, done?: (error: ServiceError | null, answer: O) => void): ClientDuplexStream<I, O>;
  close(): void;
}

export function grpcClient(service: DescService, port: number, options: ChannelOptions = {}): GrpcClient {
  const Constructor = makeGenericClientConstructor(
    grpcMethods(service) as unknown as ServiceDefinition,
    service.typeName,
  );
  const client = new Constructor(`127.0.0.1:${port}`, credentials.createInsecure(), options);
  const calls = client as unknown as Record<string, (...args: unknown[]) => unknown>;
  const call = (method: string, ...args: unknown[]): unknown => {
    const made = calls[method];
    if (made === undefined) throw new Error(`${service.typeName} has no method ${method}`);
    return made.apply(client, args);
  };
  return {
    unary: <O>(method: string, request: unknown) =>
      new Promise<O>((resolve, reject) => {
        call(method, request, (error: ServiceError | null, answer: O) => (error ? reject(error) : resolve(answer)));
      }),
    reads: <O>(method: string, request: unknown) => call(method, request) as ClientReadableStream<O>,
    writes: <I, O>(method: string, done?: (error: ServiceError | null, answer: O) => void) =>
      call(method, ...(done === undefined ? [] : [done])) as ClientDuplexStream<I, O>,
    close: () => client.close(),
  };
}

/** A call in bytes, for services that we have no code of. */
export function rawUnary(port: number, path: string, request: Uint8Array): Promise<Buffer> {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  return new Promise<Buffer>((resolve, reject) => {
    const same = (bytes: Buffer): Buffer => bytes;
    client.makeUnaryRequest(path, same, same, Buffer.from(request), (error, answer) =>
      error === null ? resolve(answer ?? Buffer.alloc(0)) : reject(error),
    );
  }).finally(() => client.close());
}

/** Sends one message on a bidirectional stream and gives the first that comes back, in bytes. */
export function rawExchange(port: number, path: string, request: Uint8Array): Promise<Buffer> {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  return new Promise<Buffer>((resolve, reject) => {
    const same = (bytes: Buffer): Buffer => bytes;
    const call = client.makeBidiStreamRequest(path, same, same);
    call.once('data', resolve).once('error', reject);
    call.write(Buffer.from(request));
    call.end();
  }).finally(() => client.close());
}

/** The error that a stream ends with. */
export const failureOf = (call: { once(event: 'error', listener: (error: ServiceError) => void): unknown }) =>
  new Promise<ServiceError>((resolve) => call.once('error', resolve));
