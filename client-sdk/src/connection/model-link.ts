import type {
  ClientReport,
  ReportUseResponse,
  SignedChannel,
  SignedManifest,
  SignedVariantList,
} from '@commonweight/proto';
import type { TransportError } from '../errors.ts';
import { openGrpcChannel } from './grpc-channel.ts';
import { GrpcModelLink } from './grpc-model-link.ts';
import { HttpModelLink } from './http-model-link.ts';
import { NatsModelLink } from './nats-model-link.ts';
import { sha256 } from '../trust/sha256.ts';
import { openNatsWebLink } from './nats-web-link.ts';
import { openNats } from './nats-connection.ts';
import { saysUnreached } from './unreached.ts';
import { requireLoopback } from './url.ts';

/** How models reach this process. Nothing above it knows which transport it is. */
export interface ModelLink {
  /** A named version; 0 is the newest. */
  getModel(model: string, version: number): Promise<SignedManifest>;
  /**
   * The newest release now, after each reconnect, and whenever there is a newer one, until unsubscribed. A release
   * may come more than once. `onDown` hears each failure of the link; a release after it means that it is up again.
   */
  watchModel(
    model: string,
    onRelease: (release: SignedManifest) => void,
    onDown?: (error: TransportError) => void,
  ): () => void;
  /** The forms that were made of a version; undefined where there are none. A link without it knows float32 alone. */
  getVariants?(model: string, version: number): Promise<SignedVariantList | undefined>;
  /** What a channel of a model says now. A link without it knows the newest version alone. */
  getChannel?(model: string, channel: string): Promise<SignedChannel>;
  /** As `watchModel`, of the records of a channel. */
  watchChannel?(
    model: string,
    channel: string,
    onRecord: (record: SignedChannel) => void,
    onDown?: (error: TransportError) => void,
  ): () => void;
  /** Says how models do here. A link without it tells nobody. */
  report?(reports: ClientReport[]): Promise<ReportUseResponse>;
  /** A blob whose bytes were checked against the digest. Resumes where a break left off. */
  download(digest: Uint8Array, size: number, onProgress?: (bytes: number) => void): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** A link to `grpc://…`, `nats://…`, `ws://…` or `http://…`. It connects in the background, so the coordinator may be away. */
export function openModelLink(url: string): ModelLink {
  switch (requireLoopback(url).kind) {
    case 'grpc':
      return new GrpcModelLink(openGrpcChannel(url));
    case 'nats':
      return new NatsModelLink(url, { sha256, open: openNats });
    case 'ws':
      return openNatsWebLink(url, sha256);
    case 'http':
      return new HttpModelLink(url, { sha256, saysUnreached });
  }
}
