import { connect } from 'node:net';
import { create, fromBinary, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { logistic, writeModel } from '@commonweight/core';
import { type ClientReportSchema, ReportUseRequestSchema, ReportUseResponseSchema } from '@commonweight/proto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../../../test/support/processes.ts';
import { openCoordinator } from '../../coordinator.ts';
import type { CoordinatorService } from '../../service.ts';
import type { Listening } from '../grpc/server.ts';
import { serveHttp } from './server.ts';

let service: CoordinatorService;
let server: Listening;

beforeEach(async () => {
  service = await openCoordinator({ dataDir: temporaryFolder('http-reports') });
  server = await serveHttp(service, { host: '127.0.0.1', port: 0, origins: ['https://app.example'], patienceMs: 2000 });
  await service.importModel('m', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
});
afterEach(async () => {
  await server.close();
  await service.close();
});

const report = (more: MessageInitShape<typeof ClientReportSchema> = {}): Uint8Array =>
  toBinary(
    ReportUseRequestSchema,
    create(ReportUseRequestSchema, {
      reports: [
        { model: 'm', channel: 'latest', client: new Uint8Array(16), id: new Uint8Array(8), version: 1n, ...more },
      ],
    }),
  );

const TYPE = { 'Content-Type': 'application/x-protobuf' };
const send = (
  body: Uint8Array,
  headers: Record<string, string> = TYPE,
  method: 'POST' | 'PUT' = 'POST',
): Promise<Response> =>
  fetch(`http://127.0.0.1:${server.port}/v1/reports`, { method, headers, body: body as Uint8Array<ArrayBuffer> });

test('a report is taken, and says when the next one is welcome', async () => {
  const response = await send(report());
  expect([response.status, response.headers.get('cache-control')]).toEqual([200, 'no-store']);
  const { nextAfterMs } = fromBinary(ReportUseResponseSchema, new Uint8Array(await response.arrayBuffer()));
  expect(nextAfterMs).toBe(1_000);
  expect(await service.getFleets('m')).toMatchObject([{ clients: 1, versions: [{ version: 1n, clients: 1 }] }]);
  const metrics = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
  expect(metrics).toContain('commonweight_fleet_clients{model="m",version="1"} 1');
  expect(metrics).toContain('commonweight_reports_total{result="taken"} 1');
});

test.each<[string, () => Promise<Response>, number, RegExp]>([
  ['another type', () => send(report(), { 'Content-Type': 'text/plain' }), 415, /application\/x-protobuf/],
  ['bytes that are none', () => send(new Uint8Array(100).fill(255)), 400, /not a report/],
  ['what is out of its limits', () => send(report({ version: 9n })), 400, /not there/],
  ['too many bytes', () => send(new Uint8Array(65 * 1024)), 413, /65536 bytes/],
  [
    'a page of another origin',
    () => send(report(), { ...TYPE, Origin: 'https://evil.example' }),
    403,
    /may not report/,
  ],
  ['another method', () => send(report(), TYPE, 'PUT'), 405, /only POST/],
])('%s is refused', async (_, ask, status, words) => {
  const response = await ask();
  expect([response.status, await response.text()]).toEqual([status, expect.stringMatching(words)]);
  expect(service.reportCounts.taken).toBe(0);
});

test('pages of this machine and of named origins may report, after they have asked', async () => {
  for (const origin of ['https://app.example', 'http://localhost:5173']) {
    const headers = { Origin: origin, 'Access-Control-Request-Method': 'POST' };
    const asked = await fetch(`http://127.0.0.1:${server.port}/v1/reports`, { method: 'OPTIONS', headers });
    expect([asked.status, asked.headers.get('access-control-allow-origin')]).toEqual([204, origin]);
    expect(asked.headers.get('access-control-allow-methods')).toBe('POST');
    expect(asked.headers.get('access-control-allow-headers')).toBe('Content-Type');
    const sent = await send(report(), { ...TYPE, Origin: origin });
    expect([sent.status, sent.headers.get('access-control-allow-origin')]).toEqual([200, origin]);
  }
});

/** What comes back on a connection of its own, until it ends. */
const raw = (text: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(server.port, '127.0.0.1', () => socket.write(text));
    let heard = '';
    socket.on('data', (data) => (heard += String(data)));
    socket.on('close', () => resolve(heard));
    socket.on('error', reject);
  });

test('a body that does not say how long it is ends where it is too long, and one that never comes is not waited for', async () => {
  const head = 'POST /v1/reports HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-protobuf\r\n';
  const chunk = `${(32 * 1024).toString(16)}\r\n${'x'.repeat(32 * 1024)}\r\n`;
  expect(await raw(`${head}Transfer-Encoding: chunked\r\n\r\n${chunk}${chunk}${chunk}0\r\n\r\n`)).toMatch(
    /^HTTP\/1.1 413 /,
  );
  expect(await raw(`${head}Content-Length: 100\r\n\r\nhalf of it`)).toMatch(/^HTTP\/1.1 408 /);
});
