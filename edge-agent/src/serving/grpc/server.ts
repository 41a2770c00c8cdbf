/** The protocol over gRPC. */
import {
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
import { asServingError } from '../errors.ts';
import { inferAs } from '../infer.ts';
import { BYTES_IN_FLIGHT_MAX, IDLE_MS, QUESTION_BYTES_MAX, type DoorLimits } from '../limits.ts';
import { portError, type Address, type Listening } from '../listening.ts';
import type { ServedModels } from '../served-models.ts';
import { SERVER } from '../server-metadata.ts';
import { admission, statusOf } from './admission.ts';
import { fromGrpc, toGrpc } from './codec.ts';
import { boundConnections, type Connections } from './connections.ts';

/** How long calls under way may take to end when the server closes. */
const DRAIN_MS = 2_000;

export interface GrpcOptions extends Address {
  bodyBytesMax: number;
  limits: DoorLimits;
}

/** Listens. Throws an Error that names the port. */
export async function serveGrpc(models: ServedModels, options: GrpcOptions): Promise<Listening> {
  const { host, port, bodyBytesMax, limits } = options;
  const budget = new ByteBudget(Math.max(BYTES_IN_FLIGHT_MAX, bodyBytesMax));
  const methods = grpcMethods(inference.GRPCInferenceService);
  const admitted = admission<inference.ModelInferRequest>({
    path: methods.modelInfer!.path,
    limits: { ...limits, bodyBytesMax, questionBytesMax: QUESTION_BYTES_MAX },
    budget,
    sizeOf,
    isBeyond: (session) => connections.isBeyond(session),
    checkRoom: () => models.checkRoom(),
    onRefused: ({ reason }) => {
      // The model's name is in the message, which was not read.
      models.metrics.request('', 'grpc');
      models.metrics.error('', reason);
    },
  });
  const server = new Server({
    'grpc.max_receive_message_length': bodyBytesMax,
    'grpc.max_send_message_length': -1,
    'grpc.max_concurrent_streams': limits.streamsMax,
    'grpc.max_connection_idle_ms': IDLE_MS,
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 10_000,
    // With channelz on, sessions pass by where they are counted.
    'grpc.enable_channelz': 0,
    interceptors: [admitted.interceptor],
  });
  const connections = boundConnections(server, limits.connectionsMax);
  server.addService(methods as unknown as ServiceDefinition, handlersOf(models));
  models.metrics.door('grpc', () => ({
    connections: connections.count,
    underWay: admitted.calls,
    heldBytes: budget.held,
  }));
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(
      `${host.includes(':') ? `[${host}]` : host}:${port}`,
      ServerCredentials.createInsecure(),
      (error, boundPort) => (error === null ? resolve(boundPort) : reject(portError('gRPC', { host, port }, error))),
    );
  });
  return { port: bound, close: () => shutdown(server, connections) };
}

function handlersOf(models: ServedModels): UntypedServiceImplementation {
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
    modelInfer: unary(inference.ModelInferResponseSchema, (request: inference.ModelInferRequest, signal) => {
      const { modelName: model, modelVersion: version } = request;
      return inferAs(
        models,
        { model, version, protocol: 'grpc', signal },
        () => fromGrpc(request),
        (answer, { isRaw }) => toGrpc(answer, isRaw),
      );
    }),
  };
}

/** Bytes that a request takes once it is read; numbers in lists take eight each. */
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
      (thrown: unknown) => done(statusOf(asServingError(thrown))),
    );
  };
}

function shutdown(server: Server, connections: Connections): Promise<void> {
  return new Promise((resolve) => {
    const forced = setTimeout(() => {
      server.forceShutdown();
      connections.cut();
      resolve();
    }, DRAIN_MS);
    server.tryShutdown(() => {
      clearTimeout(forced);
      resolve();
    });
  });
}
