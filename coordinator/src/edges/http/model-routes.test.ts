import { createHash } from 'node:crypto';
import { get, type IncomingMessage } from 'node:http';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { logistic, writeModel } from '@commonweight/core';
import { ManifestSchema, SignedManifestSchema, type Artifact, type SignedManifest } from '@commonweight/proto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../../../test/support/processes.ts';
import { openCoordinator } from '../../coordinator.ts';
import type { CoordinatorService } from '../../service.ts';
import type { Listening } from '../grpc/server.ts';
import { serveHttp } from './server.ts';

let service: CoordinatorService;
let server: Listening;
let weights: Artifact;

beforeEach(async () => {
  service = await openCoordinator({ dataDir: temporaryFolder('http-models') });
  server = await serveHttp(service, { host: '127.0.0.1', port: 0, origins: ['https://app.example'] });
  const release = await service.importModel('m', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
  weights = fromBinary(ManifestSchema, release.manifest).artifacts.find(({ role }) => role === 'weights')!;
});

afterEach(async () => {
  await server.close();
  await service.close();
});

const ask = (path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Response> =>
  fetch(`http://127.0.0.1:${server.port}${path}`, { headers, method });
const bytesOf = async (response: Response): Promise<Uint8Array> => new Uint8Array(await response.arrayBuffer());
const blobPath = (): string => `/v1/blobs/${Buffer.from(weights.digest).toString('hex')}`;

test('the newest release may be cached for a second, and a named one for ever', async () => {
  const newest = await ask('/v1/models/m');
  expect(newest.headers.get('cache-control')).toBe('public, max-age=1');
  const release = fromBinary(SignedManifestSchema, await bytesOf(newest));
  expect(fromBinary(ManifestSchema, release.manifest).version).toBe(1n);
  const named = await ask('/v1/models/m?version=1');
  expect(named.headers.get('cache-control')).toMatch(/^public, max-age=31536000, immutable$/);
  expect(await bytesOf(named)).toEqual(toBinary(SignedManifestSchema, release));
});

test('who has the newest release already gets no body', async () => {
  const etag = (await ask('/v1/models/m')).headers.get('etag') ?? '';
  for (const tag of [etag, `W/${etag}`, `"other", ${etag}`]) {
    const again = await ask('/v1/models/m', { 'If-None-Match': tag });
    expect([again.status, again.headers.get('etag'), await again.text()]).toEqual([304, etag, '']);
  }
  expect((await ask('/v1/models/m', { 'If-None-Match': '"other"' })).status).toBe(200);
});

test.each([
  ['/v1/models/nothing', 404, /no model/],
  ['/v1/models/nothing/watch', 404, /no model/],
  ['/v1/models/m?version=9', 404, /version 9/],
  ['/v1/models/m?version=x', 400, /version is a number/],
  ['/v1/models/a%20b/watch', 400, /is named by/],
  [`/v1/blobs/${'0'.repeat(64)}`, 404, /no blob/],
  ['/v1/blobs/abc', 404, /not here/],
  ['/v1/models/m/other', 404, /not here/],
])('%s is answered with %i', async (path, code, body) => {
  const response = await ask(path);
  expect(response.status).toBe(code);
  expect(await response.text()).toMatch(body);
});

test('a blob is whole, immutable and known by its digest', async () => {
  const response = await ask(blobPath());
  const blob = await bytesOf(response);
  expect(createHash('sha256').update(blob).digest().equals(weights.digest)).toBe(true);
  expect(Object.fromEntries(response.headers)).toMatchObject({
    'cache-control': 'public, max-age=31536000, immutable',
    'accept-ranges': 'bytes',
    'content-length': String(blob.length),
    etag: `"${Buffer.from(weights.digest).toString('hex')}"`,
  });
  const head = await ask(blobPath(), {}, 'HEAD');
  expect([head.status, head.headers.get('content-length')]).toEqual([200, String(blob.length)]);
});

test('a part of a blob is answered with that part, one beyond its end with 416', async () => {
  const blob = await bytesOf(await ask(blobPath()));
  const part = await ask(blobPath(), { Range: 'bytes=8-15' });
  expect([part.status, part.headers.get('content-range')]).toEqual([206, `bytes 8-15/${blob.length}`]);
  expect(await bytesOf(part)).toEqual(blob.slice(8, 16));
  const rest = await ask(blobPath(), { Range: 'bytes=8-' });
  expect(await bytesOf(rest)).toEqual(blob.slice(8));
  const beyond = await ask(blobPath(), { Range: `bytes=${blob.length}-` });
  expect([beyond.status, beyond.headers.get('content-range')]).toEqual([416, `bytes */${blob.length}`]);
  const other = await ask(blobPath(), { Range: 'bytes=8-15', 'If-Range': '"another"' });
  expect([other.status, (await bytesOf(other)).length]).toEqual([200, blob.length]);
});

test('pages of this machine and of named origins may read models; others may not, nor the status', async () => {
  const allowed = async (origin: string, path: string): Promise<string | null> =>
    (await ask(path, { Origin: origin })).headers.get('access-control-allow-origin');
  for (const origin of ['http://localhost:5173', 'http://127.0.0.1:1', 'https://app.example']) {
    expect(await allowed(origin, '/v1/models/m')).toBe(origin);
    expect(await allowed(origin, blobPath())).toBe(origin);
    expect(await allowed(origin, '/api/status')).toBeNull();
  }
  for (const origin of ['https://evil.example', 'http://localhost.evil.example', 'null'])
    expect(await allowed(origin, '/v1/models/m')).toBeNull();
  expect((await ask('/v1/models/m')).headers.get('vary')).toBe('Origin');
  const preflight = await ask('/v1/models/m', { Origin: 'https://app.example' }, 'OPTIONS');
  expect(preflight.status).toBe(204);
  expect(preflight.headers.get('access-control-allow-headers')).toBe('If-None-Match, Last-Event-ID, Range');
});

/** A stream of hints, as text; it flows only while it is read. */
const watch = (headers: Record<string, string> = {}, port: number = server.port): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path: '/v1/models/m/watch', headers }, resolve).once('error', reject);
  });

async function readUntil(stream: IncomingMessage, isEnough: (text: string) => boolean): Promise<string> {
  let text = '';
  for await (const bytes of stream) {
    text += String(bytes);
    if (isEnough(text)) break;
  }
  return text;
}

test('a watcher hears the newest version at once, unless it had heard of it before its stream broke', async () => {
  const fresh = await watch();
  expect(fresh.headers).toMatchObject({
    'content-type': 'text/event-stream',
    'cache-control': 'no-store, no-transform',
  });
  const text = await readUntil(fresh, (so) => so.includes('data:'));
  expect(text).toBe('retry: 1000\n: heartbeat 15000\n\nid: 1\nevent: release\ndata: {"version":1,"spreadMs":0}\n\n');

  const many = manyVersions();
  const later = await serveHttp(many.service, { host: '127.0.0.1', port: 0 });
  try {
    const resumed = await watch({ 'Last-Event-ID': '1' }, later.port);
    many.publish(2);
    expect(await readUntil(resumed, (so) => so.includes('data:'))).toMatch(
      /^retry: 1000\n: heartbeat 15000\n\nid: 2\n/,
    );
  } finally {
    await later.close();
  }
});

test('a slow watcher skips what is out of date, and what waits for it stays small', async () => {
  const many = manyVersions();
  const slow = await serveHttp(many.service, { host: '127.0.0.1', port: 0 });
  try {
    const stream = await watch({}, slow.port);
    const newest = 300_000;
    for (let version = 2; version <= newest; version += 1) many.publish(version);
    const text = await readUntil(stream, (so) => so.includes(`"version":${newest},`));
    expect(text.length).toBeLessThan(1024 * 1024);
  } finally {
    await slow.close();
  }
});

/** The real coordinator, with versions announced faster than anybody could train them. */
function manyVersions(): { service: CoordinatorService; publish(version: number): void } {
  const told = new Set<(release: SignedManifest) => void>();
  const watchModel: CoordinatorService['watchModel'] = (model, onRelease) => {
    told.add(onRelease);
    const stop = service.watchModel(model, onRelease);
    return () => {
      told.delete(onRelease);
      stop();
    };
  };
  const bound = new Proxy(service, {
    get: (of, name: keyof CoordinatorService) => {
      if (name === 'watchModel') return watchModel;
      const value = of[name];
      return typeof value === 'function' ? (value as () => unknown).bind(of) : value;
    },
  });
  const publish = (version: number): void => {
    const manifest = toBinary(ManifestSchema, create(ManifestSchema, { model: 'm', version: BigInt(version) }));
    for (const tell of told) tell(create(SignedManifestSchema, { manifest }));
  };
  return { service: bound, publish };
}
