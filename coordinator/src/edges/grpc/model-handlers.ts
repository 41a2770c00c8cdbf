import { create } from '@bufbuild/protobuf';
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import {
  GetChannelResponseSchema,
  GetModelResponseSchema,
  GetVariantsResponseSchema,
  ModelServiceDownloadResponseSchema,
  ReportUseResponseSchema,
  WatchChannelResponseSchema,
  WatchModelResponseSchema,
  type GetChannelRequest,
  type GetModelRequest,
  type GetVariantsRequest,
  type ReportUseRequest,
  type WatchChannelRequest,
  type WatchChannelResponse,
  type WatchModelRequest,
  type WatchModelResponse,
} from '@commonweight/proto';
import type { CoordinatorService } from '../../service.ts';
import { download, latest, unary } from './handlers.ts';

export const modelHandlers = (service: CoordinatorService, closing: AbortSignal): UntypedServiceImplementation => ({
  getModel: unary(async ({ model, version }: GetModelRequest) =>
    create(GetModelResponseSchema, { release: await service.getModel(model, Number(version)) }),
  ),
  getVariants: unary(async ({ model, version }: GetVariantsRequest) => {
    const variants = await service.getVariants(model, Number(version));
    return create(GetVariantsResponseSchema, variants === undefined ? {} : { variants });
  }),
  watchModel: latest<WatchModelRequest, WatchModelResponse>(closing, async ({ model }, tell) => {
    // Answers not-found at once; a watch of nothing would only wait.
    await service.getModel(model, 0);
    return service.watchModel(model, (release) => tell(create(WatchModelResponseSchema, { release })));
  }),
  getChannel: unary(async ({ model, channel }: GetChannelRequest) =>
    create(GetChannelResponseSchema, { record: await service.getChannel(model, channel) }),
  ),
  watchChannel: latest<WatchChannelRequest, WatchChannelResponse>(closing, async ({ model, channel }, tell) => {
    await service.getChannel(model, channel);
    return service.watchChannel(model, channel, (record) => tell(create(WatchChannelResponseSchema, { record })));
  }),
  reportUse: unary(async ({ reports }: ReportUseRequest) =>
    create(ReportUseResponseSchema, { nextAfterMs: await service.reportUse(reports) }),
  ),
  download: download(service, (chunk) => create(ModelServiceDownloadResponseSchema, chunk)),
});
