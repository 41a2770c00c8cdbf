/** The protocol over HTTP, with metrics and the page to try models on. */
import { setMaxListeners } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { ByteBudget } from '../byte-budget.ts';
import { asServingError, quoted, RETRY_AFTER_S, ServingError } from '../errors.ts';
import type { Patience } from '../importance.ts';
import { inferAs } from '../infer.ts';
import { BYTES_IN_FLIGHT_MAX, HEADER_BYTES_MAX, type DoorLimits } from '../limits.ts';
import { METRICS_TYPE } from '../metrics.ts';
import { PAGE, PAGE_POLICY } from '../page/page.ts';
import type { ServedModel } from '../served-model.ts';
import type { ServedModels } from '../served-models.ts';
import { SERVER } from '../server-metadata.ts';
import { portError, type Address, type Listening } from '../listening.ts';
import { JSON_LENGTH_HEADER, readInferRequest, writeInferAnswer, type HttpBody } from './codec.ts';
import { readExplainRequest, writeExplainAnswer } from './explain-codec.ts';
import { readImportanceRequest, writeImportanceAnswer } from './importance-codec.ts';
import { checkHeaders, readBody } from './read-body.ts';

const HEADERS = { 'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer', 'Cache-Control': 'no-store' };
/** How long a refused body is thrown away, so that its sender gets to read why, before the connection ends. */
const LINGER_MS = 1_000;
/** How much of it at most: a sender that goes on regardless is left waiting for the rest of that time. */
const LINGER_BYTES_MAX = 4 * 1024 * 1024;
/** An answer of this size is sent as one piece. */
const JOINED_BYTES = 65_536;
/** A body of this size is cheaper to read than a new connection is to open. */
const SMALL_BYTES = 65_536;

export interface HttpOptions extends Address {
  bodyBytesMax: number;
  limits: DoorLimits;
}

interface Context {
  models: ServedModels;
  bodyBytesMax: number;
  budget: ByteBudget;
  requestMs: number;
}

/** Listens. Throws an Error that names the port. */
export async function serveHttp(models: ServedModels, options: HttpOptions): Promise<Listening> {
  const { host, port, bodyBytesMax, limits } = options;
  const context: Context = {
    models,
    bodyBytesMax,
    budget: new ByteBudget(Math.max(BYTES_IN_FLIGHT_MAX, bodyBytesMax)),
    requestMs: limits.requestMs,
  };
  const server = createServer({
    maxHeaderSize: HEADER_BYTES_MAX,
    requestTimeout: limits.requestMs,
    noDelay: true,
    // A connection without a request is closed by the time below; a time of its own would be set anew with each request.
    keepAliveTimeout: 0,
  });
  let [connections, underWay] = [0, 0];
  server.on('connection', (socket) => {
    connections += 1;
    socket.once('close', () => (connections -= 1));
  });
  models.metrics.door('http', () => ({ connections, underWay, heldBytes: context.budget.held }));
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    underWay += 1;
    response.once('close', () => (underWay -= 1));
    answerTo(request, context).then(
      (body) => send(response, 200, body),
      (thrown: unknown) => refuse(request, response, asServingError(thrown)),
    );
  };
  server.on('request', listener);
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    // Who asks before it sends is told at once that the body is too large.
    if (Number(request.headers['content-length'] ?? 0) <= bodyBytesMax) response.writeContinue();
    listener(request, response);
  });
  server.maxConnections = limits.connectionsMax;
  server.timeout = limits.requestMs;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(portError('HTTP', { host, port }, error)));
    server.listen(port, host, resolve);
  });
  const bound = server.address();
  return {
    port: typeof bound === 'object' && bound !== null ? bound.port : port,
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeIdleConnections();
      const forced = setTimeout(() => server.closeAllConnections(), 2_000);
      await closed;
      clearTimeout(forced);
    },
  };
}

async function answerTo(request: IncomingMessage, context: Context): Promise<HttpBody> {
  const { models } = context;
  refuseForeign(request);
  const path = pathOf(request);
  const { model, version, what } = partsOf(path);
  if (what === '/infer') {
    allow(request, 'POST');
    return await infer(request, context, model, version);
  }
  const own = Object.hasOwn(OWN, what) ? OWN[what] : undefined;
  if (own !== undefined) {
    allow(request, 'POST');
    return await explain(request, context, model, own);
  }
  const route = Object.hasOwn(ROUTES, what) ? ROUTES[what] : undefined;
  if (route === undefined) {
    throw new ServingError(
      'unknown-path',
      `there is nothing at ${quoted(path)}; there are ${Object.keys(ROUTES).join(' ')} and POST /v2/models/NAME/infer ${Object.keys(OWN).join(' ')}`,
    );
  }
  allow(request, 'GET');
  checkHeaders(request, { bytesMax: context.bodyBytesMax, takesBinary: false });
  return route(models, model, version);
}

async function infer(request: IncomingMessage, context: Context, model: string, version: string): Promise<HttpBody> {
  const { models, bodyBytesMax, budget } = context;
  let release = (): void => {};
  try {
    return await inferAs(
      models,
      { model, version, protocol: 'http', signal: goneSignal(request.socket) },
      async () => {
        const limit = { bytesMax: bodyBytesMax, takesBinary: true };
        checkHeaders(request, limit);
        const body = await readBody(request, limit, budget);
        release = body.release;
        return readInferRequest(body.bytes, request.headers[JSON_LENGTH_HEADER] as string | undefined);
      },
      (answer, { isBinary }) => writeInferAnswer(answer, isBinary),
    );
  } finally {
    release();
  }
}

const gone = new WeakMap<Socket, AbortSignal>();

/** Aborts when the connection closes; one for all requests that come over it. */
function goneSignal(socket: Socket): AbortSignal {
  const known = gone.get(socket);
  if (known !== undefined) return known;
  const closed = new AbortController();
  // Requests may come before the ones ahead of them are answered, and each listens.
  setMaxListeners(0, closed.signal);
  socket.once('close', () => closed.abort());
  gone.set(socket, closed.signal);
  return closed.signal;
}

/** Not of the protocol: paths of our own. */
const OWN: Readonly<Record<string, OwnRoute>> = {
  '/api/models/NAME/explain': async (model, body) => writeExplainAnswer(await model.explain(readExplainRequest(body))),
  '/api/models/NAME/importance': async (model, body, patience) =>
    writeImportanceAnswer(await model.importance(readImportanceRequest(body), patience)),
};

type OwnRoute = (model: ServedModel, body: Uint8Array, patience: Patience) => Promise<HttpBody>;

/** What an answer, or a model, hangs on. */
async function explain(request: IncomingMessage, context: Context, model: string, answer: OwnRoute): Promise<HttpBody> {
  const { models, bodyBytesMax, budget, requestMs } = context;
  const label = models.labelOf(model);
  models.metrics.explanation(label);
  let release = (): void => {};
  try {
    const served = models.get(model);
    const limit = { bytesMax: bodyBytesMax, takesBinary: false };
    checkHeaders(request, limit);
    const body = await readBody(request, limit, budget);
    release = body.release;
    // Half of the time after which a silent connection is cut: that it took too long is told.
    const untilMs = performance.now() + requestMs / 2;
    return await answer(served, body.bytes, { signal: goneSignal(request.socket), untilMs });
  } catch (thrown) {
    const error = asServingError(thrown);
    models.metrics.error(label, error.reason);
    throw error;
  } finally {
    release();
  }
}

const isPosted = (what: string): boolean => what === '/infer' || Object.hasOwn(OWN, what);

type Route = (models: ServedModels, model: string, version: string) => HttpBody;

const ROUTES: Readonly<Record<string, Route>> = {
  '/': () => ({ headers: { 'Content-Type': 'text/html; charset=utf-8', ...PAGE_POLICY }, parts: [Buffer.from(PAGE)] }),
  '/metrics': (models) => ({ headers: { 'Content-Type': METRICS_TYPE }, parts: [Buffer.from(models.metricsText())] }),
  '/api/models': (models) => json(overview(models)),
  '/v2': () => json(SERVER),
  '/v2/health/live': () => json({ live: true }),
  '/v2/health/ready': (models) => {
    if (models.isReady) return json({ ready: true });
    const [first] = models.coming;
    throw new ServingError(
      'not-ready',
      first === undefined ? 'no model was asked for yet' : `'${first.name}' has no version yet: ${first.why}`,
    );
  },
  '/v2/models/NAME': (models, model, version) => json(models.get(model).metadata(version)),
  '/v2/models/NAME/ready': (models, model, version) =>
    json({ name: models.get(model).metadata(version).name, ready: true }),
};

/** What the page shows of each model beyond the protocol. */
const overview = (models: ServedModels): object => ({
  models: models.serving.map((model) => ({
    ...model.metadata(''),
    version: model.version,
    variant: model.variant,
    batching: model.batching,
  })),
  coming: models.coming,
});

const pathOf = ({ url }: IncomingMessage): string => (url ?? '/').split('?', 1)[0]!;

/** `/v2/models/NAME/versions/VERSION/infer` and its relatives, taken apart. */
function partsOf(path: string): { model: string; version: string; what: string } {
  const [, explained, how] = /^\/api\/models\/([^/]+)\/(explain|importance)\/?$/.exec(path) ?? [];
  if (explained !== undefined) return { model: decoded(explained), version: '', what: `/api/models/NAME/${how}` };
  const match = /^\/v2\/models\/([^/]+)(?:\/versions\/([^/]+))?(\/infer|\/ready)?\/?$/.exec(path);
  if (match === null) return { model: '', version: '', what: path.replace(/(?<=.)\/$/, '') };
  const [, model = '', version = '', end = ''] = match;
  return { model: decoded(model), version: decoded(version), what: end === '/infer' ? end : `/v2/models/NAME${end}` };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    // It is then no name of ours, and is refused as that.
    return part;
  }
}

/** A page of another site, which may resolve its own name to this machine, must neither read nor ask. */
function refuseForeign({ headers }: IncomingMessage): void {
  const host = headers.host ?? '';
  if (!/^(127(?:\.\d{1,3}){3}|localhost|\[::1\])(:\d+)?$/.test(host)) {
    throw new ServingError('foreign', `this server answers to 127.0.0.1 and localhost, not to ${quoted(host)}`);
  }
  const { origin } = headers;
  if (origin !== undefined && origin !== `http://${host}`) {
    throw new ServingError(
      'foreign',
      `pages of ${quoted(origin)} may not ask this server: ask from a program, or from its own page`,
    );
  }
}

const isChunked = ({ headers }: IncomingMessage): boolean => headers['transfer-encoding'] !== undefined;

function allow(request: IncomingMessage, method: 'GET' | 'POST'): void {
  if (request.method === method || (method === 'GET' && request.method === 'HEAD')) return;
  throw new ServingError('wrong-method', `${quoted(request.method ?? '')} is not for this path: use ${method}`);
}

const json = (value: unknown): HttpBody => ({
  headers: { 'Content-Type': 'application/json' },
  parts: [Buffer.from(JSON.stringify(value))],
});

function send(response: ServerResponse, code: number, { headers, parts }: HttpBody): void {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  response.writeHead(code, { ...HEADERS, ...headers, 'Content-Length': length });
  if (response.req.method === 'HEAD') return void response.end();
  // Each write has its price; to copy a little is cheaper.
  const pieces = length <= JOINED_BYTES ? [Buffer.concat(parts, length)] : parts;
  for (const piece of pieces.slice(0, -1)) response.write(piece);
  response.end(pieces.at(-1));
}

/** Answers with the protocol's error object; what is still to come of the body is thrown away for a moment and then cut off. */
function refuse(request: IncomingMessage, response: ServerResponse, error: ServingError): void {
  if (error.reason === 'cancelled') return void response.destroy();
  const body = Buffer.from(JSON.stringify({ error: error.message }));
  // What is left of a small body is read by Node itself, and the connection stays.
  const isSmall =
    request.complete || Number(request.headers['content-length'] ?? (isChunked(request) ? NaN : 0)) <= SMALL_BYTES;
  response.writeHead(error.codes.http, {
    ...HEADERS,
    'Content-Type': 'application/json',
    'Content-Length': body.length,
    ...(error.passing ? { 'Retry-After': String(RETRY_AFTER_S) } : {}),
    ...(error.reason === 'wrong-method'
      ? { Allow: isPosted(partsOf(pathOf(request)).what) ? 'POST' : 'GET, HEAD' }
      : {}),
    ...(isSmall ? {} : { Connection: 'close' }),
  });
  const text = request.method === 'HEAD' ? '' : body;
  if (isSmall) return void response.end(text);
  response.write(text);
  const end = (): void => {
    clearTimeout(timer);
    response.end();
  };
  const timer = setTimeout(end, LINGER_MS);
  let thrownAway = 0;
  request.on('data', (chunk: Uint8Array) => {
    thrownAway += chunk.length;
    if (thrownAway > LINGER_BYTES_MAX) request.pause();
  });
  request.once('end', end).once('close', end).resume();
}
