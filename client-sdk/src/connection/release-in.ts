import type { SignedChannel, SignedManifest } from '@commonweight/proto';
import { TransportError } from '../errors.ts';

/** The release of a reply, which protobuf lets a peer leave out. */
export const releaseIn = (message: { release?: SignedManifest | undefined }): SignedManifest =>
  given(message.release, 'release');

/** The record of a channel in a reply. */
export const recordIn = (message: { record?: SignedChannel | undefined }): SignedChannel =>
  given(message.record, 'record');

function given<T>(part: T | undefined, what: string): T {
  if (part !== undefined) return part;
  throw new TransportError('internal', `the coordinator answered without a ${what}; its version may be another`);
}
