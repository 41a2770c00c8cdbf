import { join } from 'node:path';
import { openModelLink } from '../connection/model-link.ts';
import { FeedbackFolder } from '../feedback/feedback-folder.ts';
import { decodeWithSharp } from '../images/decode-with-sharp.ts';
import { chooseVariant } from '../runtime/choose-variant.ts';
import { Measurements } from '../runtime/measurements.ts';
import { OrtEngine } from '../runtime/ort-engine.ts';
import { verifyEd25519 } from '../trust/ed25519.ts';
import { sha256 } from '../trust/sha256.ts';
import { FolderStorage } from './folder-storage.ts';
import type { Platform } from './platform.ts';
import { MemoryStorage } from './storage.ts';

/** Node: a folder, `node:crypto`, ONNX Runtime in a worker thread, every link. */
export const nodePlatform: Platform = {
  crypto: { sha256, verifyEd25519 },
  openStorage: (place) => (place === undefined ? new MemoryStorage() : new FolderStorage(place)),
  openEngine: (options) => new OrtEngine(options),
  openLink: openModelLink,
  decodeImage: decodeWithSharp,
  openFeedback: (folder, diskBytesMax) => new FeedbackFolder(folder, diskBytesMax),
  openVariants: (options, { threads, place }) => {
    const measurements = new Measurements(place === undefined ? undefined : join(place, 'measured'));
    return {
      choose: (subject) => chooseVariant(subject, { ...options, threads, measurements }),
      needsExamples: options.choice !== 'fp32',
    };
  },
};
