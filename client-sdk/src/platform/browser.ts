import { HttpModelLink } from '../connection/http-model-link.ts';
import { LaterLink } from '../connection/later-link.ts';
import type { ModelLink } from '../connection/model-link.ts';
import { requireLoopback } from '../connection/url.ts';
import { TransportError } from '../errors.ts';
import { wasmInPage } from '../runtime/web-engines.ts';
import { CacheStorage } from './cache-storage.ts';
import type { Platform } from './platform.ts';
import { MemoryStorage } from './storage.ts';
import { webCrypto } from './web-crypto.ts';

/** Of the six connections that a browser opens to an HTTP/1.1 host, two are left for downloads. */
const STREAMS_MAX = 4;

/** A browser: the Cache API, WebCrypto, ONNX Runtime Web in workers, HTTP or NATS by WebSocket. */
export const browserPlatform: Platform = {
  crypto: webCrypto,
  openStorage: (place) => (place === undefined ? new MemoryStorage() : new CacheStorage(place)),
  engines: [wasmInPage],
  openLink,
  makeForms: async (job) => (await import('../runtime/web-quantize.ts')).makeForms(job),
  decodeImage: async (source) => (await import('../images/decode-in-page.ts')).decodeInPage(source),
};

function openLink(url: string): ModelLink {
  const { sha256 } = webCrypto;
  const { kind } = requireLoopback(url);
  if (kind === 'http') return new HttpModelLink(url, { sha256, streamsMax: STREAMS_MAX });
  if (kind === 'ws') return new LaterLink(nats(url));
  throw new TypeError(`'${url}' is nothing that a browser can connect to: write http://… or ws://…`);
}

/** The NATS client is as large as the rest of the SDK, so only who uses it loads it. */
async function nats(url: string): Promise<ModelLink> {
  try {
    const { openNatsWebLink } = await import('../connection/nats-web-link.ts');
    return openNatsWebLink(url, webCrypto.sha256);
  } catch (cause) {
    throw new TransportError('internal', `the NATS client could not be loaded: ${(cause as Error).message}`, { cause });
  }
}
