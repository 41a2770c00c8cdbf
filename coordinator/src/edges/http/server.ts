import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { toJson } from '@bufbuild/protobuf';
import {
  AgentStatusSchema,
  ChannelStatusSchema,
  FleetStatusSchema,
  ModelSummarySchema,
  TaskStatusSchema,
} from '@commonweight/proto';
import type { CoordinatorService } from '../../service.ts';
import type { Listening } from '../grpc/server.ts';
import { answer as answerWith } from './answer.ts';
import type { Origins } from './cross-origin.ts';
import { listenHttp } from './listen.ts';
import { metricsOf } from './metrics.ts';
import { modelRoutes } from './model-routes.ts';
import { PAGE } from './page.ts';
import { REPORTS_PATH, takeReports } from './report-route.ts';

/** How often the page hears of changes, at most. */
const EVENT_MS = 250;
/** How long a request may take to come, and a page's reader to take what it is told. */
const PATIENCE_MS = 10_000;
const CONNECTIONS_MAX = 1_024;
/** Pages that may watch at once. */
const WATCHERS_MAX = 64;

/** The hash that lets exactly this inline element of the page run. */
function hashOf(element: 'script' | 'style'): string {
  const text = PAGE.match(new RegExp(`<${element}>([\\s\\S]*?)</${element}>`))?.[1] ?? '';
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

const HEADERS = {
  'Content-Security-Policy': [
    "default-src 'none'",
    `style-src ${hashOf('style')}`,
    `script-src ${hashOf('script')}`,
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'Cache-Control': 'no-store',
};

/** Serves health, metrics, models and the status page: read only, and only to who asks for this machine by name. */
export async function serveHttp(
  service: CoordinatorService,
  {
    host,
    port,
    origins = [],
    patienceMs = PATIENCE_MS,
  }: { host: string; port: number; origins?: Origins; patienceMs?: number },
): Promise<Listening> {
  const models = modelRoutes(service, origins);
  const metrics = metricsOf(service);
  let watchers = 0;
  const watch = (response: ServerResponse): void => {
    if (watchers >= WATCHERS_MAX) return void answer(response, 503, 'text/plain', 'too many pages watch: close one\n');
    // A HEAD would hold its place and never be told anything.
    if (response.req.method === 'HEAD') return answer(response, 200, 'text/event-stream', '');
    watchers++;
    response.writeHead(200, { ...HEADERS, 'Content-Type': 'text/event-stream' });
    let before = '';
    const tell = async (): Promise<void> => {
      const now = JSON.stringify(await statusOf(service));
      if (now !== before && !response.writableNeedDrain) response.write(`data: ${(before = now)}\n\n`);
    };
    // A store that fails ends this page's stream, not the process; the page asks again.
    const look = (): void => void tell().catch((error: unknown) => response.destroy(error as Error));
    const telling = setInterval(look, EVENT_MS);
    look();
    response.on('close', () => {
      clearInterval(telling);
      watchers--;
    });
  };
  const routes: Record<string, (response: ServerResponse) => void | Promise<void>> = {
    '/': (response) => answer(response, 200, 'text/html; charset=utf-8', PAGE),
    '/healthz': (response) => answer(response, 200, 'text/plain', 'ok\n'),
    '/readyz': async (response) => {
      await service.listTasks();
      answer(response, 200, 'text/plain', 'ready\n');
    },
    '/metrics': async (response) => answer(response, 200, metrics.contentType, await metrics.text()),
    '/api/status': async (response) =>
      answer(response, 200, 'application/json', JSON.stringify(await statusOf(service))),
    '/api/events': watch,
  };
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    // A page of another site that resolves its own name to this machine must not read what is here.
    if (!/^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/.test(request.headers.host ?? '')) {
      return answer(response, 421, 'text/plain', 'ask for 127.0.0.1\n');
    }
    const path = (request.url ?? '/').split('?')[0] ?? '/';
    if (path === REPORTS_PATH) return await takeReports(service, origins, request, response);
    const { 'content-length': length = '0', 'transfer-encoding': coding } = request.headers;
    const hasBody = length !== '0' || coding !== undefined;
    // Nothing else here reads a body: the connection ends instead of taking one in.
    if (hasBody) response.setHeader('Connection', 'close');
    if (request.method === 'OPTIONS' && !hasBody && (await models(request, response, path))) return;
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('Allow', 'GET, HEAD');
      return answer(response, 405, 'text/plain', 'only GET and HEAD\n');
    }
    if (hasBody) return answer(response, 413, 'text/plain', 'a request here has no body\n');
    if (await models(request, response, path)) return;
    const route = Object.hasOwn(routes, path) ? routes[path] : undefined;
    if (route === undefined) {
      const there = [...Object.keys(routes), '/v1/models/{model}', '/v1/blobs/{sha-256}', `${REPORTS_PATH} (POST)`];
      return answer(response, 404, 'text/plain', `not here; there are ${there.join(' ')}\n`);
    }
    await route(response);
  };
  const limits = { host, port, patienceMs, connectionsMax: CONNECTIONS_MAX };
  const listening = await listenHttp(handle, limits, HEADERS);
  return {
    port: listening.port,
    close: () => {
      metrics.close();
      return listening.close();
    },
  };
}

function answer(response: ServerResponse, code: number, type: string, body: string): void {
  answerWith(response, code, { ...HEADERS, 'Content-Type': type }, body);
}

async function statusOf(service: CoordinatorService): Promise<object> {
  const [tasks, agents, models] = [await service.listTasks(), await service.listAgents(), await service.listModels()];
  return {
    tasks: tasks.map((task) => toJson(TaskStatusSchema, task)),
    agents: agents.slice(0, 200).map((agent) => toJson(AgentStatusSchema, agent)),
    models: models.map((model) => toJson(ModelSummarySchema, model)),
    channels: (await service.listChannels('')).map((channel) => toJson(ChannelStatusSchema, channel)),
    fleets: (await service.getFleets('')).map((fleet) => toJson(FleetStatusSchema, fleet)),
  };
}
