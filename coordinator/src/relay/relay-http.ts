import type { IncomingMessage, ServerResponse } from 'node:http';
import { Gauge, Registry } from 'prom-client';
import type { Listening } from '../edges/grpc/server.ts';
import { answer } from '../edges/http/answer.ts';
import { listenHttp } from '../edges/http/listen.ts';
import type { RelayFigures } from './figures.ts';

const PATIENCE_MS = 10_000;
const CONNECTIONS_MAX = 64;

const HELP: Record<keyof RelayFigures, string> = {
  agents: 'Agents with an open session here.',
  updates: 'Updates that agents handed in.',
  bytesIn: 'Bytes of the payloads of these updates.',
  bytesUp: 'Bytes of payloads and parts that went up.',
  parts: 'Parts that the coordinator took.',
  updatesInParts: 'Updates in these parts.',
  single: 'Updates that went up by themselves.',
  kept: 'Updates that have not ended.',
  blobBytesServed: 'Bytes of blobs that agents got.',
  blobBytesFetched: 'Bytes of blobs that were fetched for it.',
  undecodable: 'Messages whose bytes could not be decoded.',
};

/** Serves a relay's health (`/healthz`), whether its coordinator is there (`/readyz`), and its figures for Prometheus (`/metrics`). */
export async function serveRelayHttp(
  { host, port }: { host: string; port: number },
  figures: () => RelayFigures,
  isUp: () => boolean,
): Promise<Listening> {
  const registry = new Registry();
  const gauges = Object.entries(HELP).map(([key, help]) => {
    const name = `commonweight_relay_${key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
    return { key: key as keyof RelayFigures, gauge: new Gauge({ name, help, registers: [registry] }) };
  });
  const uplink = new Gauge({
    name: 'commonweight_relay_uplink_up',
    help: 'Whether the coordinator is there.',
    registers: [registry],
  });
  const text = (): Promise<string> => {
    const now = figures();
    for (const { key, gauge } of gauges) gauge.set(now[key]);
    uplink.set(Number(isUp()));
    return registry.metrics();
  };
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const plain = { 'Content-Type': 'text/plain' };
    const path = (request.url ?? '/').split('?')[0];
    if (request.method !== 'GET') answer(response, 405, { ...plain, Allow: 'GET' }, 'only GET\n');
    else if (path === '/healthz') answer(response, 200, plain, 'ok\n');
    else if (path === '/readyz') answer(response, isUp() ? 200 : 503, plain, isUp() ? 'ready\n' : 'no uplink\n');
    else if (path === '/metrics') answer(response, 200, { 'Content-Type': registry.contentType }, await text());
    else answer(response, 404, plain, 'not here; there are /healthz /readyz /metrics\n');
  };
  return listenHttp(handle, { host, port, patienceMs: PATIENCE_MS, connectionsMax: CONNECTIONS_MAX });
}
