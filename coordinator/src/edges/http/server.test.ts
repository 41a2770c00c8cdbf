import { createHash } from 'node:crypto';
import { get, request, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../../../test/support/processes.ts';
import { invited, startTraining, TestAgent, updateOf } from '../../../../test/support/training.ts';
import { openCoordinator } from '../../coordinator.ts';
import type { CoordinatorService } from '../../service.ts';
import type { Listening } from '../grpc/server.ts';
import { serveHttp } from './server.ts';

let service: CoordinatorService;
let server: Listening;

beforeEach(async () => {
  service = await openCoordinator({ dataDir: temporaryFolder('http') });
  server = await serveHttp(service, { host: '127.0.0.1', port: 0 });
});

afterEach(async () => {
  await server.close();
  await service.close();
});

const urlOf = (path: string): string => `http://127.0.0.1:${server.port}${path}`;

interface Answer {
  code: number | undefined;
  body: string;
  headers: IncomingMessage['headers'];
}

/** A request with any method and Host; `fetch` sets the latter itself. */
function ask(
  path: string,
  { method = 'GET', headers = {} }: { method?: string; headers?: object } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request(
      { host: '127.0.0.1', port: server.port, path, method, headers: { ...headers } },
      (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (text) => (body += String(text)));
        response.on('end', () => resolve({ code: response.statusCode, body, headers: response.headers }));
      },
    );
    call.once('error', reject).end();
  });
}

interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

interface Exposition {
  types: Map<string, string>;
  samples: Sample[];
}

/** Prometheus' text format 0.0.4, strictly: each metric has HELP and TYPE before its samples, and every line is one of the three. */
function parsePrometheus(text: string): Exposition {
  expect(text.endsWith('\n')).toBe(true);
  const [helps, types, samples]: [Set<string>, Map<string, string>, Sample[]] = [new Set(), new Map(), []];
  for (const line of text.split('\n').filter((one) => one !== '')) {
    const help = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) \S.*$/.exec(line);
    const type = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge)$/.exec(line);
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (help !== null) helps.add(help[1]!);
    else if (type !== null) types.set(type[1]!, type[2]!);
    else if (sample !== null) {
      const [, name = '', inside = '', number] = sample;
      expect(helps.has(name) && types.has(name), line).toBe(true);
      const labels = [...inside.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\\n]|\\[\\n"])*)"(?:,|$)/g)];
      expect(labels.map(([all]) => all).join('')).toBe(inside);
      const value = Number(number);
      expect(value, line).not.toBeNaN();
      samples.push({ name, labels: Object.fromEntries(labels.map(([, key, of]) => [key, of])), value });
    } else throw new Error(`neither HELP nor TYPE nor a sample: ${line}`);
  }
  return { types, samples };
}

async function metrics(): Promise<Exposition> {
  const response = await fetch(urlOf('/metrics'));
  expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
  return parsePrometheus(await response.text());
}

const valueOf = ({ samples }: Exposition, name: string, labels: Record<string, string> = {}): number | undefined =>
  samples.find((one) => one.name === name && Object.entries(labels).every(([key, of]) => one.labels[key] === of))
    ?.value;

test('health and readiness answer in a word', async () => {
  expect(await ask('/healthz')).toMatchObject({ code: 200, body: 'ok\n' });
  expect(await ask('/readyz')).toMatchObject({ code: 200, body: 'ready\n' });
  expect(await ask('/healthz', { method: 'HEAD' })).toMatchObject({ code: 200, body: '' });
});

test('a coordinator whose store is closed is not ready, and says why', async () => {
  await startTraining(service);
  await service.close();
  const { code, body } = await ask('/api/status');
  expect({ code, body }).toEqual({ code: 500, body: 'the store is closed\n' });
});

test('metrics are Prometheus text: what only grows is a counter, and is called total', async () => {
  await startTraining(service);
  const { types, samples } = await metrics();
  for (const [name, type] of types) {
    expect(name).toMatch(/^commonweight_[a-z0-9_]+$/);
    expect(name.endsWith('_total'), name).toBe(type === 'counter');
  }
  expect(valueOf({ types, samples }, 'commonweight_model_version', { task: 'train' })).toBe(1);
  expect(valueOf({ types, samples }, 'commonweight_messages_undecodable_total')).toBe(0);
});

test('counters move: accepted updates, refused ones under their reason, and a second look counts nothing twice', async () => {
  await startTraining(service);
  const agents = ['a', 'b', 'c'].map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  const grid = await invited(agents);
  const rejected = (of: Exposition, reason: string) =>
    valueOf(of, 'commonweight_updates_rejected_total', { task: 'train', reason });
  expect(rejected(await metrics(), 'not-finite')).toBeUndefined();

  await agents[0]!.submit(updateOf('a', grid, { payload: new Uint8Array(41).fill(255) }));
  const once = await metrics();
  expect(rejected(once, 'not-finite')).toBe(1);
  expect(rejected(once, 'stale-round')).toBeUndefined();
  await agents[0]!.submit(updateOf('a', grid, { round: 7n }));
  await agents[0]!.submit(updateOf('a', grid, { payload: new Uint8Array(41).fill(255) }));
  const twice = await metrics();
  // The same bytes again are the same update, which has ended: a duplicate.
  expect(['not-finite', 'stale-round', 'duplicate'].map((reason) => rejected(twice, reason))).toEqual([1, 1, 1]);

  for (const agent of agents) await agent.submit(updateOf(agent.id, grid));
  service.addUndecodable();
  service.addBytes('up', 'train', 1234);
  const then = await metrics();
  expect(valueOf(then, 'commonweight_updates_accepted_total', { task: 'train' })).toBe(3);
  expect(valueOf(then, 'commonweight_model_version', { task: 'train' })).toBe(2);
  expect(valueOf(then, 'commonweight_messages_undecodable_total')).toBe(1);
  expect(valueOf(then, 'commonweight_bytes_up_total', { task: 'train' })).toBe(1234);
  expect((await metrics()).samples.filter(({ name }) => name.endsWith('_total'))).toEqual(
    then.samples.filter(({ name }) => name.endsWith('_total')),
  );
});

test('the status page runs its own script and style and nothing else', async () => {
  const response = await fetch(urlOf('/'));
  const page = await response.text();
  expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8');
  const policy = response.headers.get('content-security-policy') ?? '';
  const directives = new Map(policy.split('; ').map((one) => [one.split(' ')[0]!, one.split(' ').slice(1)]));
  for (const element of ['script', 'style']) {
    const inline = [...page.matchAll(new RegExp(`<${element}[^>]*>([\\s\\S]*?)</${element}>`, 'g'))];
    const hashes = inline.map(([, text = '']) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`);
    expect(hashes.length).toBeGreaterThan(0);
    expect(directives.get(`${element}-src`)).toEqual(hashes);
  }
  expect(policy).not.toContain('unsafe');
  expect(directives.get('default-src')).toEqual(["'none'"]);
  expect(directives.get('connect-src')).toEqual(["'self'"]);
  expect(directives.get('frame-ancestors')).toEqual(["'none'"]);
  // A hash allows neither handlers nor styles in attributes, so there must be none; and nothing comes from elsewhere.
  expect(page).not.toMatch(/<[^>]*\s(?:on[a-z]+|style|src|href)\s*=/i);
  // What agents and models are called is text, never markup.
  expect(page).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(/);
  expect(response.headers.get('x-content-type-options')).toBe('nosniff');
});

test.each(['evil.example', 'evil.example:80', '127.0.0.1.evil.example', 'localhost.evil.example', '10.0.0.1'])(
  'who asks for the host "%s" gets nothing: a page of another site that names itself to this machine',
  async (host) => {
    await startTraining(service);
    for (const path of ['/', '/metrics', '/api/status', '/api/events', '/nothing']) {
      expect(await ask(path, { headers: { Host: host } })).toMatchObject({ code: 421, body: 'ask for 127.0.0.1\n' });
    }
  },
);

test('who says no host gets nothing', async () => {
  expect(await untilClosed('GET / HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.1 421 /);
  expect(await untilClosed('GET / HTTP/1.1\r\nConnection: close\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
});

test.each(['127.0.0.1', 'localhost', 'localhost:80', '[::1]', '[::1]:80'])(
  'who asks for %s is answered',
  async (host) => {
    expect(await ask('/healthz', { headers: { Host: host } })).toMatchObject({ code: 200 });
  },
);

test('an unknown path is not found, and says what there is', async () => {
  for (const path of [
    '/nothing',
    '/metrics/',
    '//',
    '/constructor',
    '/__proto__',
    '/../metrics',
    '/%2e%2e/etc/passwd',
  ]) {
    const { code, body } = await ask(path);
    expect(code, path).toBe(404);
    expect(body).toContain('/healthz');
  }
  expect(await ask('/healthz?why=1')).toMatchObject({ code: 200 });
});

test('another method than GET and HEAD is refused, and says which there are', async () => {
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
    const { code, headers } = await ask('/api/status', { method });
    expect({ code, allow: headers.allow }).toEqual({ code: 405, allow: 'GET, HEAD' });
  }
});

/** Sends bytes and gives all that comes back until the server ends the connection. */
const untilClosed = (bytes: string): Promise<string> =>
  new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect(server.port, '127.0.0.1', () => socket.write(bytes));
    socket.on('data', (text) => (answer += String(text))).once('error', reject);
    socket.once('close', () => resolve(answer));
  });

test('a body is not read: the answer comes before it and the connection ends', async () => {
  const start = (method: string, header: string) =>
    `${method} /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n${header}\r\n\r\n`;
  expect(await untilClosed(start('GET', 'Content-Length: 10000000000'))).toMatch(/^HTTP\/1\.1 413 /);
  expect(await untilClosed(start('GET', 'Transfer-Encoding: chunked'))).toMatch(/^HTTP\/1\.1 413 /);
  expect(await untilClosed(start('POST', 'Content-Length: 10000000000'))).toMatch(/^HTTP\/1\.1 405 /);
  expect(await ask('/healthz')).toMatchObject({ code: 200 });
});

test('headers beyond the limit are refused, and the server lives on', async () => {
  expect(await untilClosed(`GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ${'x'.repeat(20_000)}`)).toMatch(
    /^HTTP\/1\.1 431 /,
  );
  expect(await ask('/healthz')).toMatchObject({ code: 200 });
});

interface Status {
  tasks: { task: string; state: string; version: string; updatesAccepted?: string }[];
  agents: { agentId: string; online?: boolean }[];
  models: { model: string; newestVersion: string; parameters: string }[];
}

/** What the live stream says, one state each. */
async function* events(): AsyncGenerator<Status> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(urlOf('/api/events'), resolve).once('error', reject);
  });
  expect(response.headers['content-type']).toBe('text/event-stream');
  let rest = '';
  try {
    for await (const bytes of response) {
      const parts = `${rest}${String(bytes)}`.split('\n\n');
      rest = parts.pop() ?? '';
      for (const part of parts) yield JSON.parse(part.replace(/^data: /, '')) as Status;
    }
  } finally {
    response.destroy();
  }
}

test('the live stream says what is, and again when a task, a model or an agent changes', async () => {
  const stream = events();
  const next = async (isSo: (status: Status) => boolean): Promise<Status> => {
    for (;;) {
      const { value, done } = await stream.next();
      if (done === true) throw new Error('the stream ended');
      if (isSo(value)) return value;
    }
  };
  expect(await next(() => true)).toEqual({ tasks: [], agents: [], models: [], channels: [], fleets: [] });
  await startTraining(service);
  const { tasks, models } = await next((status) => status.tasks[0]?.state === 'running');
  expect(tasks).toMatchObject([{ task: 'train', version: '1' }]);
  expect(models).toMatchObject([{ model: 'flowers', newestVersion: '1', parameters: '39' }]);
  const agents = ['a', 'b', 'c'].map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  const grid = await invited(agents);
  for (const agent of agents) await agent.submit(updateOf(agent.id, grid));
  const after = await next((status) => status.tasks[0]?.version === '2');
  expect(after).toMatchObject({ tasks: [{ updatesAccepted: '3' }], models: [{ newestVersion: '2' }] });
  expect(after.agents.map(({ agentId }) => agentId)).toEqual(['a', 'b', 'c']);
  await stream.return(undefined);
});

test('pages beyond the limit are told to wait, and a place that gets free is given away', async () => {
  const open = Array.from({ length: 64 }, () => events());
  await Promise.all(open.map((stream) => stream.next()));
  expect(await ask('/api/events')).toMatchObject({ code: 503, body: 'too many pages watch: close one\n' });
  for (const stream of open.splice(0, 1)) await stream.return(undefined);
  const again = events();
  await expect.poll(async () => (await ask('/api/events', { method: 'HEAD' })).code).toBe(200);
  expect((await again.next()).value).toEqual({ tasks: [], agents: [], models: [], channels: [], fleets: [] });
  for (const stream of [...open, again]) await stream.return(undefined);
});

test('a store that fails ends the stream, not the process', async () => {
  await startTraining(service);
  const stream = events();
  await stream.next();
  await service.close();
  await expect(stream.next()).rejects.toThrow();
  expect(await ask('/healthz')).toMatchObject({ code: 200 });
});

test('a port that is in use is named, with what to do', async () => {
  await expect(serveHttp(service, { host: '127.0.0.1', port: server.port })).rejects.toThrow(
    new RegExp(
      `cannot listen for HTTP on 127.0.0.1:${server.port}, which is in use: end the program that uses the port`,
    ),
  );
});
