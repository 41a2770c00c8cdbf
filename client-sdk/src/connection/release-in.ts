import type { SignedManifest } from '@commonweight/proto';
import { TransportError } from '../errors.ts';

/** The release of a reply, which protobuf lets a peer leave out. */
export function releaseIn(message: { release?: SignedManifest | undefined }): SignedManifest {
  if (message.release === undefined) {
    throw new TransportError('internal', 'the coordinator answered without a release; its version may be another');
  }
  return message.release;
}
