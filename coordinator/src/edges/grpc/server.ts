import { setMaxListeners } from 'node:events';
import { Server, ServerCredentials, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import {
  AdminService,
  AgentService,
  grpcMethods,
  MESSAGE_BYTES_MAX,
  ModelService,
  RelayService,
} from '@commonweight/proto';
import { HealthImplementation } from 'grpc-health-check';
import { toBinary, type DescFile, type DescService } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import type { AgentGate, CoordinatorService } from '../../service.ts';
import { adminHandlers } from './admin-handlers.ts';
import { agentHandlers } from './agent-handlers.ts';
import { connectionsOf } from './connections.ts';
import { inTurn, widenConnections } from './flow-control.ts';
import { modelHandlers } from './model-handlers.ts';
import { patient } from './patience.ts';
import { relayHandlers } from './relay-handlers.ts';

/** A server that listens. */
export interface Listening {
  port: number;
  close(): Promise<void>;
}

/** How long a message may take that the other side sends or is to take: a chunk at no less than 17 kB/s, six heartbeats. */
const PATIENCE_MS = 30_000;
/** How long calls under way may take to end when the server closes. */
const DRAIN_MS = 2_000;

const OPTIONS = {
  'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
  // Per connection; the default is without limit, and half-open streams would pile up.
  'grpc.max_concurrent_streams': 256,
  // With channelz on, sessions pass by where the flow-control window is set.
  'grpc.enable_channelz': 0,
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 10_000,
};

/** A service with what answers its calls. */
interface Served {
  service: DescService;
  handlersOf(closing: AbortSignal): UntypedServiceImplementation;
}

interface Place {
  host: string;
  port: number;
  patienceMs?: number;
}

/** Serves agents, apps, administrators and relays over gRPC. Throws naming the port where it is in use. */
export const serveGrpc = (service: CoordinatorService, place: Place): Promise<Listening> =>
  serve(service, place, [
    { service: AgentService, handlersOf: (closing) => agentHandlers(service, closing) },
    { service: ModelService, handlersOf: (closing) => modelHandlers(service, closing) },
    { service: AdminService, handlersOf: (closing) => adminHandlers(service, closing) },
    { service: RelayService, handlersOf: () => relayHandlers(service) },
  ]);

/** Serves agents alone, as a relay does. Throws naming the port where it is in use. */
export const serveAgents = (gate: AgentGate, place: Place): Promise<Listening> =>
  serve(gate, place, [{ service: AgentService, handlersOf: (closing) => agentHandlers(gate, closing) }]);

async function serve(
  gate: Pick<AgentGate, 'addUndecodable'>,
  { host, port, patienceMs = PATIENCE_MS }: Place,
  served: readonly Served[],
): Promise<Listening> {
  const { submitUpdate, importModel, submitPart } = {
    ...grpcMethods(AgentService),
    ...grpcMethods(AdminService),
    ...grpcMethods(RelayService),
  };
  const large = { inTurns: [submitUpdate!.path], atOnce: [importModel!.path, submitPart!.path] };
  const server = new Server({ ...OPTIONS, interceptors: [inTurn(large, patient(patienceMs))] });
  widenConnections(server);
  const connections = connectionsOf(server);
  const closing = new AbortController();
  // Each open stream listens.
  setMaxListeners(0, closing.signal);
  for (const { service, handlersOf } of served) add(server, gate, service, handlersOf(closing.signal));
  const services = served.map(({ service }) => service);
  const health = new HealthImplementation(
    Object.fromEntries(['', ...services.map(({ typeName }) => typeName)].map((name) => [name, 'SERVING'])),
  );
  health.addToServer(server);
  reflection(services).addToServer(server);
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${host}:${port}`, ServerCredentials.createInsecure(), (error, boundPort) =>
      error === null ? resolve(boundPort) : reject(portError('gRPC', host, port, error)),
    );
  });
  return { port: bound, close: () => (closing.abort(), shutdown(server, connections)) };
}

/** A port that cannot be had, in words. */
export const portError = (what: string, host: string, port: number, cause: Error): Error =>
  new Error(
    `cannot listen for ${what} on ${host}:${port}${/EADDRINUSE/.test(cause.message) ? ', which is in use' : ` (${cause.message})`}: end the program that uses the port, or choose another`,
    { cause },
  );

function add(
  server: Server,
  gate: Pick<AgentGate, 'addUndecodable'>,
  service: DescService,
  handlers: UntypedServiceImplementation,
): void {
  const methods = Object.entries(grpcMethods(service)).map(([name, method]) => {
    const requestDeserialize = (bytes: Buffer) => {
      try {
        return method.requestDeserialize(bytes);
      } catch (cause) {
        gate.addUndecodable();
        throw cause;
      }
    };
    return [name, { ...method, requestDeserialize }];
  });
  server.addService(Object.fromEntries(methods) as ServiceDefinition, handlers);
}

function reflection(services: readonly DescService[]): ReflectionService {
  const files = new Map<string, DescFile>();
  const collect = (file: DescFile): void => {
    files.set(file.name, file);
    file.dependencies.forEach(collect);
  };
  services.forEach(({ file }) => collect(file));
  const fileDescriptorProtos = [...files.values()].map((file) =>
    Buffer.from(toBinary(FileDescriptorProtoSchema, file.proto)),
  );
  // The library reads nothing of the package but the descriptors that hang on one of its methods.
  const definition = {
    'commonweight.v1': { format: 'Protocol Buffer 3 DescriptorProto', type: {}, fileDescriptorProtos },
  };
  return new ReflectionService(definition as unknown as ConstructorParameters<typeof ReflectionService>[0]);
}

function shutdown(server: Server, connections: { cut(): void }): Promise<void> {
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
