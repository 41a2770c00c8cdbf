/** The protocol over gRPC. */
import {
  Metadata,
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerUnaryCall,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { create, type DescMessage, type MessageInitShape, type MessageShape } from '@bufbuild/protobuf';
import { grpcMethods, inference } from '@commonweight/proto';
import { ByteBudget } from '../byte-budget.ts';
import { asServingError, RETRY_AFTER_S } from '../errors.ts';
import { inferAs } from '../infer.ts';
import { BYTES_IN_FLIGHT_MAX, STREAMS_MAX } from '../limits.ts';
import { portError, type Address, type Listening } from '../listening.ts';
import type { ServedModels } from '../served-models.ts';
import { SERVER } from '../server-metadata.ts';
import { fromGrpc, toGrpc } from './codec.ts';

/** How long calls under way may take to end when the server closes. */
const DRAIN_MS = 2_000;

export interface GrpcOptions extends Address {
  bodyBytesMax: number;
}

/** Listens. Throws an Error that names the port. */
export async function serveGrpc(models: ServedModels, { host, port, bodyBytesMax }: GrpcOptions): Promise<Listening> {
  const server = new Server({
    'grpc.max_receive_message_length': bodyBytesMax,
    'grpc.max_send_message_length': -1,
    'grpc.max_concurrent_streams': STREAMS_MAX,
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 10_000,
    'grpc.enable_channelz': 0,
  });
  server.addService(
    grpcMethods(inference.GRPCInferenceService) as unknown as ServiceDefinition,
    handlersOf(models, new ByteBudget(Math.max(BYTES_IN_FLIGHT_MAX, bodyBytesMax))),
  );
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(
      `${host.includes(':') ? `[${host}]` : host}:${port}`,
      ServerCredentials.createInsecure(),
      (error, boundPort) => (error === null ? resolve(boundPort) : reject(portError('gRPC', { host, port }, error))),
    );
  });
  return { port: bound, close: () => shutdown(server) };
}

function handlersOf(models: ServedModels, budget: ByteBudget): UntypedServiceImplementation {
  return {
    serverLive: unary(inference.ServerLiveResponseSchema, () => ({ live: true })),
    serverReady: unary(inference.ServerReadyResponseSchema, () => ({ ready: models.isReady })),
    serverMetadata: unary(inference.ServerMetadataResponseSchema, () => SERVER),
    modelReady: unary(inference.ModelReadyResponseSchema, ({ name, version }: inference.ModelReadyRequest) => {
      try {
        models.get(name).metadata(version);
        return { ready: true };
      } catch (thrown) {
        // A model on its way is an answer; one that is unknown here is an error.
        const error = asServingError(thrown);
        if (error.reason === 'not-ready' || error.reason === 'unknown-version') return { ready: false };
        throw error;
      }
    }),
    modelMetadata: unary(inference.ModelMetadataResponseSchema, ({ name, version }: inference.ModelMetadataRequest) => {
      const { inputs, outputs, ...rest } = models.get(name).metadata(version);
      const wire = (tensors: typeof inputs): { name: string; datatype: string; shape: bigint[] }[] =>
        tensors.map(({ shape, ...tensor }) => ({ ...tensor, shape: shape.map(BigInt) }));
      return { ...rest, inputs: wire(inputs), outputs: wire(outputs) };
    }),
    modelInfer: unary(inference.ModelInferResponseSchema, async (request: inference.ModelInferRequest, signal) => {
      const { modelName: model, modelVersion: version } = request;
      let release = (): void => {};
      try {
        return await inferAs(
          models,
          { model, version, protocol: 'grpc', signal },
          () => {
            release = budget.take(sizeOf(request));
            return fromGrpc(request);
          },
          (answer, { isRaw }) => toGrpc(answer, isRaw),
        );
      } finally {
        release();
      }
    }),
  };
}

const sizeOf = ({ inputs, rawInputContents }: inference.ModelInferRequest): number =>
  rawInputContents.reduce((sum, { length }) => sum + length, 0) +
  inputs.reduce(
    (sum, { contents }) =>
      sum +
      8 *
        Object.values(contents ?? {}).reduce(
          (most, field: unknown) => Math.max(most, Array.isArray(field) ? field.length : 0),
          0,
        ),
    0,
  );

function unary<Request, D extends DescMessage>(
  schema: D,
  answer: (request: Request, signal: AbortSignal) => MessageInitShape<D> | Promise<MessageInitShape<D>>,
) {
  return (call: ServerUnaryCall<Request, MessageShape<D>>, done: sendUnaryData<MessageShape<D>>): void => {
    const given = new AbortController();
    call.on('cancelled', () => given.abort());
    const reply = async (): Promise<MessageShape<D>> => create(schema, await answer(call.request, given.signal));
    reply().then(
      (response) => done(null, response),
      (thrown: unknown) => {
        const error = asServingError(thrown);
        const metadata = new Metadata();
        // How gRPC clients that try again are told to wait (gRFC A6).
        if (error.passing) metadata.set('grpc-retry-pushback-ms', String(RETRY_AFTER_S * 1000));
        done({ code: error.codes.grpc, details: error.message, metadata });
      },
    );
  };
}

function shutdown(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const forced = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, DRAIN_MS);
    server.tryShutdown(() => {
      clearTimeout(forced);
      resolve();
    });
  });
}
