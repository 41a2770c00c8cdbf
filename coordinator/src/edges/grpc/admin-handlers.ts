import { create } from '@bufbuild/protobuf';
import { ConfigError } from '@commonweight/core';
import type { ServerReadableStream, sendUnaryData, UntypedServiceImplementation } from '@grpc/grpc-js';
import {
  CreateTaskResponseSchema,
  HoldChannelResponseSchema,
  ListChannelsResponseSchema,
  PromoteVersionResponseSchema,
  RollbackChannelResponseSchema,
  GetFleetResponseSchema,
  GetTaskResponseSchema,
  ImportModelResponseSchema,
  ListAgentsResponseSchema,
  ListCandidatesResponseSchema,
  ListKeptResponseSchema,
  ListResultsResponseSchema,
  ListModelsResponseSchema,
  ListTasksResponseSchema,
  ListVersionsResponseSchema,
  MakeVariantsResponseSchema,
  PauseTaskResponseSchema,
  PinVersionResponseSchema,
  ReportVariantResponseSchema,
  RollbackModelResponseSchema,
  StartTaskResponseSchema,
  WatchTaskResponseSchema,
  type CreateTaskRequest,
  type GetFleetRequest,
  type GetTaskRequest,
  type HoldChannelRequest,
  type ImportModelRequest,
  type ImportModelResponse,
  type ListCandidatesRequest,
  type ListChannelsRequest,
  type ListKeptRequest,
  type ListResultsRequest,
  type ListVersionsRequest,
  type MakeVariantsRequest,
  type PauseTaskRequest,
  type PinVersionRequest,
  type PromoteVersionRequest,
  type ReportVariantRequest,
  type RollbackChannelRequest,
  type RollbackModelRequest,
  type StartTaskRequest,
  type WatchTaskRequest,
  type WatchTaskResponse,
} from '@commonweight/proto';
import type { Promotion } from '../../channels/channel.ts';
import { parseGuard } from '../../channels/guard.ts';
import { ServiceError, type CoordinatorService } from '../../service.ts';
import { parseVariantPolicy, type VariantPolicy } from '../../variants/forms.ts';
import { GrowingFile } from './growing-file.ts';
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
  listCandidates: unary(async ({ model }: ListCandidatesRequest) =>
    create(ListCandidatesResponseSchema, { candidates: await service.listCandidates(model) }),
  ),
  listResults: unary(async ({ model, task }: ListResultsRequest) =>
    create(ListResultsResponseSchema, { results: await service.listResults(model === '' ? { task } : { model }) }),
  ),
  listKept: unary(async ({ model }: ListKeptRequest) => {
    const { collected, pinned, retained } = await service.listKept(model);
    const versions = (numbers: readonly number[]): bigint[] => numbers.map(BigInt);
    return create(ListKeptResponseSchema, {
      collected: versions(collected),
      pinned: versions(pinned),
      retained: versions(retained),
    });
  }),
  pinVersion: unary(async ({ model, version, pinned }: PinVersionRequest) =>
    create(PinVersionResponseSchema, { version: BigInt(await service.pinVersion(model, Number(version), pinned)) }),
  ),
  rollbackModel: unary(async ({ model, version }: RollbackModelRequest) =>
    create(RollbackModelResponseSchema, await service.rollbackModel(model, Number(version))),
  ),
  listChannels: unary(async ({ model }: ListChannelsRequest) =>
    create(ListChannelsResponseSchema, { channels: await service.listChannels(model) }),
  ),
  promoteVersion: unary(async (request: PromoteVersionRequest) =>
    create(PromoteVersionResponseSchema, { status: await service.promoteVersion(request, promotionIn(request)) }),
  ),
  holdChannel: unary(async ({ held, reason, ...of }: HoldChannelRequest) =>
    create(HoldChannelResponseSchema, {
      status: await service.holdChannel(of, held ? reason || 'by hand' : undefined),
    }),
  ),
  rollbackChannel: unary(async ({ version, ...of }: RollbackChannelRequest) => {
    const status = await service.rollbackChannel(of, version === 0n ? undefined : Number(version));
    return create(RollbackChannelResponseSchema, { status });
  }),
  getFleet: unary(async ({ model }: GetFleetRequest) =>
    create(GetFleetResponseSchema, { fleets: await service.getFleets(model) }),
  ),
  makeVariants: unary(async ({ model, version, ...policy }: MakeVariantsRequest) => {
    const variants = await service.makeVariants(model, Number(version), policyIn(policy));
    return create(MakeVariantsResponseSchema, { variants });
  }),
  reportVariant: unary(async ({ version, ...report }: ReportVariantRequest) => {
    const { model, form, digest, measurement } = report;
    const variants = await service.reportVariant({ model, form, digest, measurement, version: Number(version) });
    return create(ReportVariantResponseSchema, { variants });
  }),
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

function promotionIn(request: PromoteVersionRequest): Promotion {
  const { version, percent, cohorts, stages, everyMs, guard, needsReports } = request;
  return {
    version: Number(version),
    cohorts: cohorts.map(({ key, value }) => ({ key, value })),
    stages,
    everyMs: Number(everyMs),
    guard: parseGuard(guard),
    needsReports,
    // A message cannot tell 0 from nothing.
    ...(percent === 0 ? {} : { percent }),
  };
}

function policyIn({
  forms,
  accuracyDropPointsMax,
  calibrationAgentsMin,
  calibrationMethod,
}: Omit<MakeVariantsRequest, '$typeName' | 'model' | 'version'>): VariantPolicy {
  try {
    return parseVariantPolicy({
      forms,
      accuracyDropPointsMax,
      ...(calibrationAgentsMin === 0 ? {} : { calibrationAgentsMin }),
      ...(calibrationMethod === '' ? {} : { calibrationMethod }),
    });
  } catch (cause) {
    if (cause instanceof ConfigError) throw new ServiceError('invalid', cause.message, { cause });
    throw cause;
  }
}

async function importModel(
  service: CoordinatorService,
  call: ServerReadableStream<ImportModelRequest, ImportModelResponse>,
): Promise<ImportModelResponse> {
  let name = '';
  let file = new GrowingFile(0);
  for await (const { model, data, size } of call as AsyncIterable<ImportModelRequest>) {
    if (name === '') {
      name = model;
      file = new GrowingFile(Number(size));
    }
    file.add(data);
  }
  return create(ImportModelResponseSchema, { release: await service.importModel(name, file.bytes()) });
}
