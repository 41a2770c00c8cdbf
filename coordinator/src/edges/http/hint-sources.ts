import { fromBinary } from '@bufbuild/protobuf';
import { ChannelSchema, isName, ManifestSchema, type SignedChannel, type SignedManifest } from '@commonweight/proto';
import { ServiceError, type CoordinatorService } from '../../service.ts';
import type { HintSource } from './hint-stream.ts';

/** The newest version of a model. */
export async function releaseHints(service: CoordinatorService, model: string): Promise<HintSource> {
  if (!isName(model)) throw new ServiceError('invalid', 'a model is named by letters, digits, - and _');
  const numberOf = ({ manifest }: SignedManifest): number => Number(fromBinary(ManifestSchema, manifest).version);
  return {
    event: 'release',
    key: 'version',
    first: numberOf(await service.getModel(model, 0)),
    watch: (onNumber) => service.watchModel(model, (release) => onNumber(numberOf(release))),
  };
}

/** What a channel says. */
export async function channelHints(service: CoordinatorService, model: string, channel: string): Promise<HintSource> {
  if (!isName(model) || !isName(channel))
    throw new ServiceError('invalid', 'models and channels are named by letters, digits, - and _');
  const numberOf = ({ record }: SignedChannel): number => Number(fromBinary(ChannelSchema, record).revision);
  return {
    event: 'channel',
    key: 'revision',
    first: numberOf(await service.getChannel(model, channel)),
    watch: (onNumber) => service.watchChannel(model, channel, (record) => onNumber(numberOf(record))),
  };
}
