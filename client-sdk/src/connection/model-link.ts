import type { SignedManifest } from '@commonweight/proto';
import type { TransportError } from '../errors.ts';
import { openGrpcChannel } from './grpc-channel.ts';
import { GrpcModelLink } from './grpc-model-link.ts';
import { NatsModelLink } from './nats-model-link.ts';
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
  /** A blob whose bytes were checked against the digest. Resumes where a break left off. */
  download(digest: Uint8Array, size: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** A link to `grpc://…` or `nats://…`. It connects in the background, so the coordinator may be away. */
export function openModelLink(url: string): ModelLink {
  return requireLoopback(url).kind === 'grpc' ? new GrpcModelLink(openGrpcChannel(url)) : new NatsModelLink(url);
}
