import { create } from '@bufbuild/protobuf';
import { AdminService, grpcMethods, ImportModelRequestSchema, type ImportModelResponse } from '@commonweight/proto';
import {
  CreateTaskRequestSchema,
  GetTaskRequestSchema,
  PauseTaskRequestSchema,
  StartTaskRequestSchema,
  type TaskStatus,
} from '@commonweight/proto';
import { credentials, makeGenericClientConstructor, type ServiceDefinition } from '@grpc/grpc-js';

/** The administrator's calls that tests need, over stock grpc-js. */
export interface Admin {
  importModel(model: string, onnx: Uint8Array): Promise<ImportModelResponse>;
  createTask(task: string, config: object): Promise<TaskStatus>;
  startTask(task: string): Promise<TaskStatus>;
  pauseTask(task: string): Promise<TaskStatus>;
  task(task: string): Promise<TaskStatus>;
  close(): void;
}

type Callback = (error: Error | null, response: never) => void;
type Calls = Record<string, (...args: unknown[]) => { write(message: unknown): void; end(): void }>;

export function adminOf(port: number): Admin {
  const Client = makeGenericClientConstructor(
    grpcMethods(AdminService) as unknown as ServiceDefinition,
    'AdminService',
  );
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  const calls = client as unknown as Calls;
  const unary = <T>(method: string, request: unknown): Promise<T> =>
    new Promise((resolve, reject) => {
      const done: Callback = (error, response) => (error ? reject(error) : resolve(response));
      calls[method]?.call(client, request, done);
    });
  const status = async (method: string, request: unknown): Promise<TaskStatus> => {
    const response = await unary<{ status?: TaskStatus }>(method, request);
    if (response.status === undefined) throw new Error(`${method} answered without a status`);
    return response.status;
  };
  return {
    importModel: (model, data) =>
      new Promise((resolve, reject) => {
        const done: Callback = (error, response) => (error ? reject(error) : resolve(response));
        const call = calls['importModel']?.call(client, done);
        const chunk = 256 * 1024;
        for (let offset = 0; offset < data.length; offset += chunk) {
          call?.write(create(ImportModelRequestSchema, { model, data: data.subarray(offset, offset + chunk) }));
        }
        call?.end();
      }),
    createTask: (task, config) =>
      status('createTask', create(CreateTaskRequestSchema, { task, configJson: JSON.stringify(config) })),
    startTask: (task) => status('startTask', create(StartTaskRequestSchema, { task })),
    pauseTask: (task) => status('pauseTask', create(PauseTaskRequestSchema, { task })),
    task: (task) => status('getTask', create(GetTaskRequestSchema, { task })),
    close: () => client.close(),
  };
}
