import { join } from 'node:path';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { fedAvg2nn, seeded, writeModel } from '@commonweight/core';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { preview, type PreviewServer } from 'vite';
import { GUARD } from '../../coordinator/src/channels/guard.ts';
import { freePort } from '../support/free-port.ts';
import { listening, natsServerWithWebSocket, temporaryFolder, type Program } from '../support/processes.ts';
import { publishNext } from '../support/publish-next.ts';
import { buildExample } from './build.ts';
import { launchChromium } from './chromium.ts';

let browser: Browser;
let pages: PreviewServer;
let nats: Program;
let coordinator: RunningCoordinator;
let [natsPort, webSocketPort, pagePort] = [0, 0, 0];
const dataDir = temporaryFolder('browser');

const start = async (http: string): Promise<RunningCoordinator> =>
  startCoordinator({ dataDir, grpc: '127.0.0.1:0', http, nats: `nats://127.0.0.1:${natsPort}` });

beforeAll(async () => {
  [natsPort, webSocketPort, pagePort] = [await freePort(), await freePort(), await freePort()];
  nats = natsServerWithWebSocket(natsPort, webSocketPort);
  await listening(webSocketPort, nats);
  coordinator = await start('127.0.0.1:0');
  const outDir = join(temporaryFolder('page'), 'dist');
  await buildExample(outDir);
  pages = await preview({
    configFile: false,
    logLevel: 'error',
    build: { outDir },
    preview: { host: '127.0.0.1', port: pagePort, strictPort: true },
  });
  browser = await launchChromium();
});

afterAll(async () => {
  await browser.close();
  await pages.close();
  await coordinator.close();
  await nats.end('SIGTERM');
});

const opened: Page[] = [];
const faults: Error[] = [];
/** Bytes that came to pages from a coordinator. */
let received = 0;
afterEach(async () => {
  received = 0;
  await Promise.all(opened.splice(0).map((page) => page.context().close()));
  expect(faults.splice(0)).toEqual([]);
});

async function open(
  url: string,
  model: string,
  { context = browser.newContext(), channel = 'latest', shadow = '' } = {},
): Promise<Page> {
  const page = await (await context).newPage();
  opened.push(page);
  page.on('pageerror', (error) => faults.push(error));
  page.on('response', (response) => {
    // Chromium does not keep every body; a stream of events has no length.
    if (response.url().includes('/v1/')) received += Number(response.headers()['content-length'] ?? 0);
  });
  page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => (received += payload.length)));
  await page.goto(
    `http://127.0.0.1:${pagePort}/?url=${encodeURIComponent(url)}&model=${model}&channel=${channel}&shadow=${shadow}`,
  );
  return page;
}

const serves = (page: Page, version: number): Promise<unknown> =>
  page.waitForSelector(`body[data-version="${version}"]`);

/** A stroke from the top to the bottom, and the digit that the page makes of it. */
async function drawOne(page: Page): Promise<string> {
  const box = await page.locator('#canvas').boundingBox();
  if (box === null) throw new Error('the page has a canvas');
  await page.mouse.move(box.x + 140, box.y + 40);
  await page.mouse.down();
  await page.mouse.move(box.x + 140, box.y + 240, { steps: 20 });
  await page.mouse.up();
  await page.waitForSelector('#guess:not(:empty)');
  return (await page.locator('#guess').textContent()) ?? '';
}

describe.each([
  ['http', () => `http://127.0.0.1:${coordinator.httpPort}`],
  ['ws', () => `ws://127.0.0.1:${webSocketPort}`],
])('a page over %s', (kind, url) => {
  test('says what was drawn, by the newest version, and goes on from one version to the next', async () => {
    const model = `drawn-${kind}`;
    await coordinator.service.importModel(model, writeModel(fedAvg2nn(1)));
    const page = await open(url(), model);
    await serves(page, 1);
    expect(await drawOne(page)).toMatch(/^[0-9]$/);
    await publishNext(coordinator.service, model, 0.001);
    await serves(page, 2);
    await page.waitForSelector('body[data-predicted-by="2"]');
    expect(await page.locator('#log li').allTextContents()).toEqual(['version 1 → 2 (newer)', 'version 1 (current)']);
  });

  test('has what its channel says, and goes back with it, also without the coordinator', async () => {
    const model = `channel-${kind}`;
    await coordinator.service.importModel(model, writeModel(fedAvg2nn(1)));
    await publishNext(coordinator.service, model, 0.001);
    const of = { model, channel: 'stable' };
    const promote = (version: number): Promise<unknown> =>
      coordinator.service.promoteVersion(of, {
        version,
        cohorts: [],
        stages: [],
        everyMs: 0,
        guard: GUARD,
        needsReports: false,
      });
    await promote(1);
    const context = browser.newContext();
    const page = await open(url(), model, { context, channel: 'stable', shadow: 'latest' });
    await serves(page, 1);
    // The newest version predicts beside what the channel has, as the person draws on.
    const besides = async (): Promise<number> => {
      await drawOne(page);
      return Number((await coordinator.service.getFleets(model))[0]?.shadows[0]?.rows ?? 0n);
    };
    await expect.poll(besides, { timeout: 120_000, interval: 1000 }).toBeGreaterThan(0);
    expect((await coordinator.service.getFleets(model))[0]?.shadows[0]).toMatchObject({ version: 2n, champion: 1n });
    await promote(2);
    await serves(page, 2);
    await coordinator.service.rollbackChannel(of, undefined);
    await serves(page, 1);
    expect(await page.locator('#log li').allTextContents()).toContain('version 2 → 1 (rollback)');
    // What the page runs is told, some seconds after it began.
    await expect
      .poll(async () => (await coordinator.service.getFleets(model))[0]?.versions, { timeout: 30_000 })
      .toContainEqual(expect.objectContaining({ version: 1n, runtimes: { 'onnxruntime-web 1.30.0 wasm': 1 } }));
    const again = await open('http://127.0.0.1:1', model, { context, channel: 'stable' });
    await serves(again, 1);
    expect(await drawOne(again)).toMatch(/^[0-9]$/);
  });
});

test('a page explains what was drawn, by gradients that its own runtime takes', async () => {
  await coordinator.service.importModel('explained', writeModel(fedAvg2nn(1)));
  const page = await open(`http://127.0.0.1:${coordinator.httpPort}`, 'explained');
  await serves(page, 1);
  const guess = await drawOne(page);
  await page.click('#why');
  await page.locator('#reason').waitFor();
  expect(await page.locator('#explained').textContent()).toBe(guess);
  expect(await page.locator('#log li').allTextContents()).toEqual(['version 1 (current)']);
});

test.each([
  ['http', () => `http://127.0.0.1:${coordinator.httpPort}`],
  ['ws', () => `ws://127.0.0.1:${webSocketPort}`],
])('a page over %s makes the next version of the last one and a delta', async (kind, url) => {
  const model = `steps-${kind}`;
  await coordinator.service.importModel(model, writeModel(fedAvg2nn(1)));
  const page = await open(url(), model);
  await serves(page, 1);
  // Chromium tells of bytes some time after the page has them.
  const heard = { timeout: 60_000 };
  await expect.poll(() => received, heard).toBeGreaterThan(4 * 199_210);
  received = 0;
  const random = seeded(kind);
  const change = Float32Array.from({ length: 199_210 }, () => random.normal() * 1e-3);
  await publishNext(coordinator.service, model, change, { downlink: 'mxint8' });
  await serves(page, 2);
  await page.waitForSelector('body[data-predicted-by="2"]');
  await expect.poll(() => received, heard).toBeGreaterThan(4 * 199_210 * 0.1);
  expect(received).toBeLessThan(4 * 199_210 * 0.2);
  expect(await page.locator('#log li').allTextContents()).toEqual(['version 1 → 2 (newer)', 'version 1 (current)']);
});

test('a page starts without the coordinator from what it kept, and takes a version back that a person calls bad', async () => {
  const model = 'kept';
  await coordinator.service.importModel(model, writeModel(fedAvg2nn(1)));
  const { httpPort } = coordinator;
  const url = `http://127.0.0.1:${httpPort}`;
  const context = browser.newContext();
  const first = await open(url, model, { context });
  await serves(first, 1);
  await publishNext(coordinator.service, model, 0.001);
  await serves(first, 2);
  await first.close();
  await coordinator.close();
  try {
    const again = await open(url, model, { context });
    await serves(again, 2);
    expect(await drawOne(again)).toMatch(/^[0-9]$/);
    await again.click('#bad');
    await serves(again, 1);
    expect(await again.locator('#log li').allTextContents()).toContain(
      'version 2 was taken back: the app said: the person who drew said so',
    );
    await again.reload();
    await serves(again, 1);
  } finally {
    coordinator = await start(`127.0.0.1:${httpPort}`);
  }
});
