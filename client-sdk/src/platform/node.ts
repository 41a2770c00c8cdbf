import { openModelLink } from '../connection/model-link.ts';
import { FeedbackFolder } from '../feedback/feedback-folder.ts';
import { decodeWithSharp } from '../images/decode-with-sharp.ts';
import { nodeEngines } from '../runtime/node-engines.ts';
import { makeForms } from '../runtime/quantize.ts';
import { verifyEd25519 } from '../trust/ed25519.ts';
import { sha256 } from '../trust/sha256.ts';
import { FolderStorage } from './folder-storage.ts';
import type { Platform } from './platform.ts';
import { MemoryStorage } from './storage.ts';

/** Node: a folder, `node:crypto`, ONNX Runtime in worker threads, every link. */
export const nodePlatform: Platform = {
  crypto: { sha256, verifyEd25519 },
  openStorage: (place) => (place === undefined ? new MemoryStorage() : new FolderStorage(place)),
  engines: nodeEngines,
  openLink: openModelLink,
  makeForms,
  decodeImage: decodeWithSharp,
  openFeedback: (folder, diskBytesMax) => new FeedbackFolder(folder, diskBytesMax),
};
