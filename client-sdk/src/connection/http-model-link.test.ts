import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { ManifestSchema, SignedManifestSchema, type SignedManifest } from '@commonweight/proto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { sha256 } from '../trust/sha256.ts';
import { Backoff } from './backoff.ts';
import { HttpModelLink, type HttpLinkOptions } from './http-model-link.ts';

/** A server in front of a coordinator that does what such servers do: refuse streams, hold them back, cut them, know no ranges. */
class Proxy {
  version = 1;
  stream: 'live' | 'refused' | 'silent' = 'live';
  readonly asked: string[] = [];
  blob: (request: IncomingMessage, response: ServerResponse) => void = (_, response) =>
    void response.writeHead(404).end();
  readonly #server: Server;
  readonly #open = new Set<ServerResponse>();

  constructor() {
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? '';
    this.asked.push(path);
    if (path.startsWith('/v1/blobs/')) return this.blob(request, response);
    if (!path.endsWith('/watch')) {
      const etag = `"${this.version}"`;
      if (request.headers['if-none-match'] === etag) return void response.writeHead(304, { ETag: etag }).end();
      return void response.writeHead(200, { ETag: etag }).end(toBinary(SignedManifestSchema, releaseOf(this.version)));
    }
    if (this.stream === 'refused') return void response.writeHead(503).end('no streams here\n');
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.flushHeaders();
    if (this.stream === 'silent') return;
    this.#open.add(response);
    this.#hint(response);
  }

  #hint(response: ServerResponse): void {
    response.write(`id: ${this.version}\nevent: release\ndata: {"version":${this.version}}\n\n`);
  }

  get watchers(): number {
    return this.#open.size;
  }

  publish(): void {
    this.version += 1;
    for (const response of this.#open) this.#hint(response);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

const releaseOf = (version: number): SignedManifest =>
  create(SignedManifestSchema, {
    manifest: toBinary(ManifestSchema, create(ManifestSchema, { model: 'm', version: BigInt(version) })),
  });

let proxy: Proxy;
const links: HttpModelLink[] = [];

beforeEach(async () => {
  proxy = new Proxy();
  await proxy.listen();
});

afterEach(async () => {
  await Promise.all(links.splice(0).map((link) => link.close()));
  await proxy.close();
});

/** A link whose waits are a thousandth. */
function open(options: Partial<HttpLinkOptions> = {}): HttpModelLink {
  const newBackoff = (): Backoff => new Backoff({ baseMs: 1, maxMs: 5 });
  const link = new HttpModelLink(proxy.url, {
    sha256,
    newBackoff,
    pollMs: 10,
    streamPatienceMs: 60,
    streamRetryMs: 100,
    ...options,
  });
  links.push(link);
  return link;
}

const until = (isSo: () => boolean): Promise<void> => expect.poll(isSo, { interval: 5 }).toBe(true);

function watch(link: HttpModelLink): { heard: number[]; downs: Error[] } {
  const [heard, downs]: [number[], Error[]] = [[], []];
  const versionOf = ({ manifest }: SignedManifest): number => Number(fromBinary(ManifestSchema, manifest).version);
  link.watchModel(
    'm',
    (release) => heard.push(versionOf(release)),
    (error) => downs.push(error),
  );
  return { heard, downs };
}

test('a hint is followed by a read of the version that it names', async () => {
  const { heard } = watch(open());
  await until(() => heard.includes(1));
  proxy.publish();
  await until(() => heard.includes(2));
  expect(proxy.asked).toEqual(['/v1/models/m/watch', '/v1/models/m?version=1', '/v1/models/m?version=2']);
});

test.each(['refused', 'silent'] as const)(
  'where streams are %s, the state is polled, and the stream taken up when it is back',
  async (how) => {
    proxy.stream = how;
    const { heard, downs } = watch(open({ silenceMs: 30 }));
    await until(() => heard.includes(1) && downs.length > 0);
    proxy.version = 2;
    await until(() => heard.includes(2));
    // Polling: far more reads than tries of the stream.
    await until(() => proxy.asked.slice(proxy.asked.lastIndexOf('/v1/models/m/watch')).length > 5);
    proxy.stream = 'live';
    await until(() => proxy.watchers > 0);
    proxy.publish();
    await until(() => heard.includes(3));
  },
);

test('watches beyond the streams that a browser can hold poll', async () => {
  const link = open({ streamsMax: 1 });
  const [first, second] = [watch(link), watch(link)];
  await until(() => first.heard.includes(1) && second.heard.includes(1));
  proxy.publish();
  await until(() => first.heard.includes(2) && second.heard.includes(2));
  expect(proxy.asked.filter((path) => path.endsWith('/watch'))).toHaveLength(1);
});

const blob = Uint8Array.from({ length: 300_000 }, (_, i) => i % 251);
const digest = sha256(blob);

test('a download that breaks off is resumed where it was', async () => {
  const ranges: (string | undefined)[] = [];
  proxy.blob = (request, response) => {
    ranges.push(request.headers.range);
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? 'bytes=0-')?.[1]);
    response.writeHead(from === 0 ? 200 : 206, {
      'Content-Length': blob.length - from,
      ...(from === 0 ? {} : { 'Content-Range': `bytes ${from}-${blob.length - 1}/${blob.length}` }),
    });
    if (ranges.length > 1) return void response.end(blob.subarray(from));
    response.write(blob.subarray(0, 100_000), () => response.destroy());
  };
  expect(await open().download(digest, blob.length)).toEqual(blob);
  expect(ranges[0]).toBeUndefined();
  expect(ranges[1]).toMatch(/^bytes=[1-9]\d*-$/);
});

test('a cache that knows no ranges sends the whole, and what is there already is skipped', async () => {
  let times = 0;
  proxy.blob = (_, response) => {
    response.writeHead(200, { 'Content-Length': blob.length });
    if ((times += 1) > 1) return void response.end(blob);
    response.write(blob.subarray(0, 100_000), () => response.destroy());
  };
  expect(await open().download(digest, blob.length)).toEqual(blob);
  expect(times).toBe(2);
});

test('a server that is no coordinator is named as such', async () => {
  const link = open({ fetch: () => Promise.resolve(new Response('<html>', { status: 200 })) });
  const { downs } = watch(link);
  await until(() => downs.length > 1);
  expect(downs.map(({ message }) => message)).toContain(
    'what answers is not a coordinator: it sent no stream of events',
  );
});
