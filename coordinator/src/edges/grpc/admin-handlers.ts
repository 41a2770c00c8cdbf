import { create } from '@bufbuild/protobuf';
import type { ServerReadableStream, sendUnaryData, UntypedServiceImplementation } from '@grpc/grpc-js';
import {
  BLOB_BYTES_MAX,
  CreateTaskResponseSchema,
  GetTaskResponseSchema,
  ImportModelResponseSchema,
  ListAgentsResponseSchema,
  ListModelsResponseSchema,
  ListTasksResponseSchema,
  ListVersionsResponseSchema,
  PauseTaskResponseSchema,
  StartTaskResponseSchema,
  WatchTaskResponseSchema,
  type CreateTaskRequest,
  type GetTaskRequest,
  type ImportModelRequest,
  type ImportModelResponse,
  type ListVersionsRequest,
  type PauseTaskRequest,
  type StartTaskRequest,
  type WatchTaskRequest,
  type WatchTaskResponse,
} from '@commonweight/proto';
import { ServiceError, type CoordinatorService } from '../../service.ts';
import { latest, unary } from './handlers.ts';
import { toGrpc } from './status.ts';

export const adminHandlers = (service: CoordinatorService, closing: AbortSignal): UntypedServiceImplementation => ({
  importModel: (
    call: ServerReadableStream<ImportModelRequest, ImportModelResponse>,
    callback: sendUnaryData<ImportModelResponse>,
  ) => {
    importModel(service, call).then(
      (response) => callback(null, response),
      (error: unknown) => callback(toGrpc(error)),
    );
  },
  listModels: unary(async () => create(ListModelsResponseSchema, { models: await service.listModels() })),
  listVersions: unary(async ({ model }: ListVersionsRequest) =>
    create(ListVersionsResponseSchema, { releases: await service.listVersions(model) }),
  ),
  createTask: unary(async ({ task, configJson }: CreateTaskRequest) =>
    create(CreateTaskResponseSchema, { status: await service.createTask(task, configJson) }),
  ),
  startTask: unary(async ({ task }: StartTaskRequest) =>
    create(StartTaskResponseSchema, { status: await service.startTask(task) }),
  ),
  pauseTask: unary(async ({ task }: PauseTaskRequest) =>
    create(PauseTaskResponseSchema, { status: await service.pauseTask(task) }),
  ),
  getTask: unary(async ({ task }: GetTaskRequest) =>
    create(GetTaskResponseSchema, { status: await service.getTask(task) }),
  ),
  listTasks: unary(async () => create(ListTasksResponseSchema, { tasks: await service.listTasks() })),
  watchTask: latest<WatchTaskRequest, WatchTaskResponse>(closing, async ({ task }, tell) =>
    service.watchTask(task, (status) => tell(create(WatchTaskResponseSchema, { status }))),
  ),
  listAgents: unary(async () => create(ListAgentsResponseSchema, { agents: await service.listAgents() })),
});

async function importModel(
  service: CoordinatorService,
  call: ServerReadableStream<ImportModelRequest, ImportModelResponse>,
): Promise<ImportModelResponse> {
  const chunks: Uint8Array[] = [];
  let name = '';
  let size = 0;
  for await (const { model, data } of call as AsyncIterable<ImportModelRequest>) {
    name ||= model;
    size += data.length;
    if (size > BLOB_BYTES_MAX) throw new ServiceError('invalid', `a model may have up to ${BLOB_BYTES_MAX} bytes`);
    chunks.push(data);
  }
  return create(ImportModelResponseSchema, { release: await service.importModel(name, Buffer.concat(chunks)) });
}
