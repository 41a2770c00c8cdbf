import type { ModelLink } from '../connection/model-link.ts';
import type { FeedbackStore } from '../feedback/feedback-folder.ts';
import type { DecodeImage } from '../images/encoded.ts';
import type { EngineSources } from '../runtime/engines.ts';
import type { MakeForms } from '../runtime/made-forms.ts';
import type { Storage } from './storage.ts';

/** SHA-256 as 32 bytes; in a browser there is only the kind that one waits for. */
export type Sha256 = (bytes: Uint8Array) => Uint8Array | Promise<Uint8Array>;

/** What trust is made of. */
export interface TrustCrypto {
  sha256: Sha256;
  /** Whether `signature` (64 bytes) of `message` was made by the key whose raw 32 public bytes are given. */
  verifyEd25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean | Promise<boolean>;
}

/** What differs between Node and a browser. Everything else of the SDK is the same code. */
export interface Platform {
  crypto: TrustCrypto;
  /** Where releases are kept; without a place, in memory. */
  openStorage(place: string | undefined): Storage;
  /** What may run models; the first is for those who ask for none. */
  engines: EngineSources;
  openLink(url: string): ModelLink;
  /** Makes int8 forms of a version beside what the app does. */
  makeForms: MakeForms;
  /** The pixels of an image file. */
  decodeImage?: DecodeImage;
  /** Where labelled examples are kept for an agent of this device. */
  openFeedback?(folder: string, diskBytesMax: number | undefined): FeedbackStore;
}
