import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { toBinary } from '@bufbuild/protobuf';
import {
  CHUNK_BYTES_MAX,
  SignedChannelSchema,
  SignedManifestSchema,
  SignedVariantListSchema,
} from '@commonweight/proto';
import { ServiceError, type CoordinatorService } from '../../service.ts';
import { answer, HEADERS, TEXT } from './answer.ts';
import { rangeOf } from './byte-range.ts';
import { allowOrigin, PREFLIGHT, type Origins } from './cross-origin.ts';
import { channelHints, releaseHints } from './hint-sources.ts';
import { hintStreams } from './hint-stream.ts';
import { statusCodes } from './status-codes.ts';

/** How long a cache may answer for the newest version: two seconds late at most, and one request a second for a crowd. */
const NEWEST = 'public, max-age=1';
/** What a version or a digest names never changes. */
const FOR_EVER = 'public, max-age=31536000, immutable';
/** Blobs that may be on their way at once: each holds one chunk. */
const BLOB_READERS_MAX = 256;
/** A reader that takes nothing for this long is let go. */
const IDLE_MS = 60_000;

/** Answers a request below `/v1/`, or says that it is none. */
export type ModelRoutes = (request: IncomingMessage, response: ServerResponse, path: string) => Promise<boolean>;

/**
 * What an app's SDK asks over HTTP: `GET /v1/models/{model}` (a SignedManifest; `?version=` for an older one),
 * `/v1/models/{model}/watch` (server-sent events), `/v1/models/{model}/variants` (a SignedVariantList, or 204),
 * `/v1/models/{model}/channels/{channel}` (a SignedChannel; whatever `?revision=` is named, the newest) with a `/watch` of its own, and
 * `/v1/blobs/{sha-256}` (ranged). Any cache may stand before it.
 */
export function modelRoutes(service: CoordinatorService, origins: Origins): ModelRoutes {
  const streams = hintStreams();
  let readers = 0;
  return async (request, response, path) => {
    const [, model, part, channel, watched] =
      /^\/v1\/models\/([^/]+)(?:\/(watch|variants|channels\/([^/]+)(\/watch)?))?$/.exec(path) ?? [];
    const [, digest] = /^\/v1\/blobs\/([0-9a-f]{64})$/.exec(path) ?? [];
    if (model === undefined && digest === undefined) return false;
    allowOrigin(request, response, origins);
    if (request.method === 'OPTIONS') {
      answer(response, 204, PREFLIGHT);
      return true;
    }
    try {
      if (digest !== undefined) await blob(digest, request, response);
      else if (channel !== undefined && watched !== undefined)
        await streams.open(() => channelHints(service, model ?? '', channel), request, response);
      else if (channel !== undefined) await channelRecord(model ?? '', channel, request, response);
      else if (part === 'watch') await streams.open(() => releaseHints(service, model ?? ''), request, response);
      else if (part === 'variants') await variants(model ?? '', request, response);
      else await release(model ?? '', request, response);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      const again = error.code === 'unavailable' ? { 'Retry-After': '5' } : {};
      answer(response, statusCodes[error.code], { ...TEXT, ...again }, `${error.message}\n`);
    }
    return true;
  };

  async function release(model: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const version = versionIn(request);
    const bytes = toBinary(SignedManifestSchema, await service.getModel(model, version));
    message(bytes, version === 0 ? NEWEST : FOR_EVER, request, response);
  }

  /** What is said of a version's forms may change, so a cache may not keep it for long. */
  async function variants(model: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const list = await service.getVariants(model, versionIn(request));
    if (list === undefined) return answer(response, 204, { 'Cache-Control': NEWEST });
    message(toBinary(SignedVariantListSchema, list), NEWEST, request, response);
  }

  async function channelRecord(
    model: string,
    channel: string,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const record = await service.getChannel(model, channel);
    message(toBinary(SignedChannelSchema, record), NEWEST, request, response);
  }

  async function blob(name: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (readers >= BLOB_READERS_MAX)
      throw new ServiceError('unavailable', `${BLOB_READERS_MAX} downloads are on their way: try again in a moment`);
    readers++;
    try {
      await readBlob(name, request, response);
    } finally {
      readers--;
    }
  }

  async function readBlob(name: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const digest = new Uint8Array(Buffer.from(name, 'hex'));
    const { totalSize } = await service.readBlob(digest, 0, 0);
    const etag = `"${name}"`;
    const headers = { ETag: etag, 'Cache-Control': FOR_EVER, 'Accept-Ranges': 'bytes' };
    if (isKnown(request, etag)) return answer(response, 304, headers);
    const isSame = (request.headers['if-range'] ?? etag) === etag;
    const range = isSame ? rangeOf(request.headers.range, totalSize) : 'whole';
    if (range === 'unsatisfiable') {
      return answer(
        response,
        416,
        { ...TEXT, 'Content-Range': `bytes */${totalSize}` },
        'beyond the end of the blob\n',
      );
    }
    const { from, to } = range === 'whole' ? { from: 0, to: totalSize - 1 } : range;
    response.writeHead(range === 'whole' ? 200 : 206, {
      ...HEADERS,
      ...headers,
      'Content-Type': 'application/octet-stream',
      'Content-Length': to - from + 1,
      ...(range === 'whole' ? {} : { 'Content-Range': `bytes ${from}-${to}/${totalSize}` }),
    });
    response.setTimeout(IDLE_MS, () => response.destroy());
    if (request.method !== 'HEAD') await send(digest, from, to, response);
    response.end();
  }

  /** Writes the bytes as fast as they are taken, and no faster. */
  async function send(digest: Uint8Array, from: number, to: number, response: ServerResponse): Promise<void> {
    for (let at = from; at <= to && !response.destroyed;) {
      const { data } = await service.readBlob(digest, at, Math.min(CHUNK_BYTES_MAX, to - at + 1));
      if (data.length === 0) return void response.destroy();
      service.addBytes('down', undefined, data.length);
      at += data.length;
      if (response.write(data) || response.destroyed) continue;
      await new Promise<void>((resolve) => {
        response.once('drain', resolve).once('close', resolve);
      });
    }
  }
}

function versionIn(request: IncomingMessage): number {
  const asked = new URL(request.url ?? '/', 'http://localhost').searchParams.get('version') ?? '0';
  if (!/^\d{1,15}$/.test(asked)) throw new ServiceError('invalid', 'version is a number; 0 is the newest');
  return Number(asked);
}

function message(bytes: Uint8Array, cacheControl: string, request: IncomingMessage, response: ServerResponse): void {
  const headers = {
    ETag: `"${createHash('sha256').update(bytes).digest('hex').slice(0, 32)}"`,
    'Cache-Control': cacheControl,
  };
  if (isKnown(request, headers.ETag)) return answer(response, 304, headers);
  answer(
    response,
    200,
    { ...headers, 'Content-Type': 'application/x-protobuf', 'Content-Length': bytes.length },
    bytes,
  );
}

const isKnown = (request: IncomingMessage, etag: string): boolean =>
  (request.headers['if-none-match'] ?? '').split(',').some((one) => one.trim().replace(/^W\//, '') === etag);
