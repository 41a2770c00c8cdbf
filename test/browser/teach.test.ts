/** The page that trains: an agent in a tab, a real coordinator behind a real NATS server. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { cnn, mlp, writeModel } from '@commonweight/core';
import { labelsOf, loadDataset, runAgent, valuesOfExample } from '@commonweight/edge-agent';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { preview, type PreviewServer } from 'vite';
import { adminOf, type Admin } from '../support/admin.ts';
import { freePort } from '../support/free-port.ts';
import { listening, natsServerWithWebSocket, temporaryFolder, until, type Program } from '../support/processes.ts';
import { buildExample } from './build.ts';
import { launchChromium } from './chromium.ts';

/** A tab may wait its turn on a machine that is busy. */
const WAIT_MS = 240_000;

const ISOLATED = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

let browser: Browser;
let withGpu: Browser;
let nats: Program;
let coordinator: RunningCoordinator;
let admin: Admin;
let [natsPort, webSocketPort] = [0, 0];
const pages: Record<string, { server: PreviewServer; port: number }> = {};
const folder = temporaryFolder('teach');
const file = join(folder, 'digits.csv');

beforeAll(async () => {
  [natsPort, webSocketPort] = [await freePort(), await freePort()];
  nats = natsServerWithWebSocket(natsPort, webSocketPort);
  await listening(webSocketPort, nats);
  coordinator = await startCoordinator({
    dataDir: join(folder, 'coordinator'),
    grpc: '127.0.0.1:0',
    http: '127.0.0.1:0',
    nats: `nats://127.0.0.1:${natsPort}`,
  });
  admin = adminOf(coordinator.grpcPort);
  const outDir = join(folder, 'dist');
  await buildExample(outDir, 'teach');
  for (const [name, headers] of Object.entries({ isolated: ISOLATED, plain: {} })) {
    const port = await freePort();
    const options = { host: '127.0.0.1', port, strictPort: true, headers };
    const server = await preview({ configFile: false, logLevel: 'error', build: { outDir }, preview: options });
    pages[name] = { server, port };
  }
  await writeFile(file, await csv('mnist?partition=0/200&by=iid&seed=1'));
  browser = await launchChromium();
  withGpu = await launchChromium(['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader']);
}, WAIT_MS);

afterAll(async () => {
  await browser.close();
  await withGpu.close();
  for (const { server } of Object.values(pages)) await server.close();
  admin.close();
  await coordinator.close();
  await nats.end('SIGTERM');
}, WAIT_MS);

const opened: Page[] = [];
const faults: Error[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((page) => page.context().close()));
  expect(faults.splice(0)).toEqual([]);
});

/** Digits as the page reads them. */
async function csv(spec: string): Promise<string> {
  const data = await loadDataset(spec);
  const size = valuesOfExample(data);
  const pixels = data.columns[0]!.values as Float32Array;
  const labels = labelsOf(data)!;
  const lines = Array.from(labels, (label, i) => [...pixels.subarray(i * size, (i + 1) * size), label]);
  const header = [...Array.from({ length: size }, (_, i) => `p${i}`), 'label'];
  return [header, ...lines].map((line) => line.join()).join('\n');
}

/** A task that a model learns the digits by. */
async function task(
  name: string,
  cohort: number,
  rounds: number,
  model = mlp({ inputs: 784, hidden: [16], outputs: 10, seed: 1 }),
): Promise<void> {
  await coordinator.service.importModel(name, writeModel(model));
  const plan = { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 8 };
  await admin.createTask(name, { model: name, plan, cohort: { min: cohort, max: cohort }, rounds, collectMs: 600_000 });
  await admin.startTask(name);
}

interface Opening {
  of: string;
  served?: 'isolated' | 'plain';
  engine?: string;
  context?: ReturnType<Browser['newContext']>;
}

/** The page with the file read in, for a task. */
async function open({
  of,
  served = 'isolated',
  engine = 'auto',
  context = browser.newContext(),
}: Opening): Promise<Page> {
  const page = await (await context).newPage();
  page.setDefaultTimeout(WAIT_MS);
  opened.push(page);
  page.on('pageerror', (error) => faults.push(error));
  const url = encodeURIComponent(`ws://127.0.0.1:${webSocketPort}`);
  await page.goto(`http://127.0.0.1:${pages[served]!.port}/?url=${url}&task=${of}&engine=${engine}`);
  await page.setInputFiles('#file', file);
  await page.getByText('examples from digits.csv').waitFor();
  return page;
}

const train = (page: Page): Promise<void> => page.getByRole('button', { name: 'Train' }).click();
const shows = (page: Page, id: string, text: string): Promise<void> =>
  page.locator(`#${id}`, { hasText: new RegExp(`^${text}$`) }).waitFor();
const log = (page: Page): Promise<string[]> => page.locator('#log li').allTextContents();

test.each(['isolated', 'plain'] as const)(
  'a tab of a page that is %s trains, and its updates are in the next versions',
  { timeout: WAIT_MS },
  async (served) => {
    await task(served, 1, 2, cnn({ filters: [4, 8], kernel: 3, dense: 16, seed: 1 }));
    const page = await open({ of: served, served });
    expect(await page.evaluate('crossOriginIsolated')).toBe(served === 'isolated');
    await train(page);
    await shows(page, 'receipts', '2');
    await shows(page, 'engine', 'ort-web');
    const status = await admin.task(served);
    expect(status).toMatchObject({ version: 3n });
    if (served === 'isolated') await page.screenshot({ path: join(folder, 'teach.png'), fullPage: true });
  },
);

/** The other agent of a round, in this process: as slow as it is told, until it is stopped. */
function other(of: string, cpuShare: number): () => Promise<void> {
  const stop = new AbortController();
  const running = runAgent({
    coordinator: `grpc://127.0.0.1:${coordinator.grpcPort}`,
    agentId: `other-${of}`,
    data: 'mnist?partition=1/200&by=iid&seed=1',
    dataDir: join(folder, `other-${of}`),
    task: of,
    engine: 'ort-cpu',
    cpuShare,
    signal: stop.signal,
  });
  return async () => {
    stop.abort();
    await running;
  };
}

test(
  'an update outlives its tab: opened again, it offers what has no receipt, and trains nothing twice',
  { timeout: 2 * WAIT_MS },
  async () => {
    await task('closed', 2, 1);
    const context = browser.newContext();
    const first = await open({ of: 'closed', context });
    // It rests between its steps for hours, so that the round waits for it.
    const stopSlow = other('closed', 1e-6);
    await train(first);
    await shows(first, 'state', 'waiting for a receipt');
    await first.close();
    const again = await open({ of: 'closed', context });
    await train(again);
    await again.getByText('connected').waitFor();
    await stopSlow();
    const stop = other('closed', 1);
    await shows(again, 'receipts', '1');
    await stop();
    expect((await log(again)).filter((line) => line.includes('steps in'))).toEqual([]);
    expect(await log(again)).toContain('round 1: receipt, in version 2');
  },
);

test('one tab at a time trains in a place', { timeout: WAIT_MS }, async () => {
  await task('twice', 2, 1);
  const context = browser.newContext();
  const first = await open({ of: 'twice', context });
  await train(first);
  await first.getByText('connected').waitFor();
  const second = await open({ of: 'twice', context });
  await train(second);
  await second.getByText("another tab trains in 'teach' already").waitFor();
  await first.getByRole('button', { name: 'Stop' }).click();
  await shows(first, 'state', 'off');
  await train(second);
  await second.getByText('connected').waitFor();
});

test(
  'a tab trains on WebGPU, here on one that SwiftShader plays, as it does in WebAssembly',
  { timeout: WAIT_MS },
  async () => {
    await task('gpu', 1, 1);
    const page = await open({ of: 'gpu', engine: 'ort-webgpu', context: withGpu.newContext() });
    await train(page);
    await shows(page, 'receipts', '1');
    expect(await log(page)).toContain('trains on ort-webgpu');
    await until('version 2', WAIT_MS, async () => (await admin.task('gpu')).version === 2n);
  },
);
