import type { ModelLink } from '../connection/model-link.ts';
import type { FeedbackStore } from '../feedback/feedback-folder.ts';
import type { DecodeImage } from '../images/encoded.ts';
import type { Variants } from '../model/life.ts';
import type { Engine } from '../runtime/engine.ts';
import type { VariantOptions } from '../runtime/variant.ts';
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
  openEngine(options: { threads: number }): Engine;
  openLink(url: string): ModelLink;
  /** The pixels of an image file. */
  decodeImage?: DecodeImage;
  /** Where labelled examples are kept for an agent of this device. */
  openFeedback?(folder: string, diskBytesMax: number | undefined): FeedbackStore;
  /** What takes the form that each version serves in; measurements are kept in `place`. */
  openVariants?(options: VariantOptions, machine: { threads: number; place: string | undefined }): Variants;
}
