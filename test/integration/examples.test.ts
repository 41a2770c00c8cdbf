// The examples, each started as its first lines say, against a real coordinator with a model that knows digits.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { mlp, writeModel } from '@commonweight/core';
import { loadDataset, type Dataset } from '@commonweight/edge-agent';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { preview, type PreviewServer } from 'vite';
import { buildExample } from '../browser/build.ts';
import { launchChromium } from '../browser/chromium.ts';
import { examplesOf, trainedOnDigits } from '../support/digit-models.ts';
import { freePort } from '../support/free-port.ts';
import { sourceProgram, temporaryFolder, until, type Program } from '../support/processes.ts';
import { publishNext } from '../support/publish-next.ts';

let coordinator: RunningCoordinator;
let digits: Dataset;
const folder = temporaryFolder('examples');
const url = (): string => `grpc://127.0.0.1:${coordinator.grpcPort}`;

beforeAll(async () => {
  coordinator = await startCoordinator({ dataDir: join(folder, 'data'), grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  const model = await trainedOnDigits(mlp({ inputs: 784, hidden: [64], outputs: 10, seed: 1 }), 400);
  await coordinator.service.importModel('digits', writeModel(model));
  digits = await loadDataset('mnist?split=test');
});
afterAll(() => coordinator.close());

const pixelsOf = (index: number): Float32Array => examplesOf(digits, index, 1).inputs;
const labelOf = (index: number): number => examplesOf(digits, index, 1).labels[0]!;

/** Its exit code, once it has ended by itself. */
const ended = ({ child }: Program): Promise<number | null> =>
  new Promise((resolve) => {
    if (child.exitCode !== null) resolve(child.exitCode);
    else child.once('exit', resolve);
  });

test('the service answers, tells errors of the caller from its own, takes feedback, follows versions and ends in order', async () => {
  const port = await freePort();
  const cache = join(folder, 'service');
  const args = ['--coordinator', url(), '--port', String(port), '--cache', cache];
  const service = sourceProgram('examples/service/server.js', ...args);
  await until('it to listen', 60_000, () => service.output().includes('listening on'), service.output);
  const ask = async (path: string, body?: object): Promise<{ status: number; body: Record<string, unknown> }> => {
    const headers = { 'Content-Type': 'application/json' };
    const post = body === undefined ? {} : { method: 'POST', headers, body: JSON.stringify(body) };
    const response = await fetch(`http://127.0.0.1:${port}${path}`, post);
    const text = await response.text();
    return { status: response.status, body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>) };
  };
  expect(await ask('/healthz')).toEqual({ status: 200, body: { status: 'ready', version: 1 } });
  let right = 0;
  for (let i = 0; i < 20; i += 1) {
    const { body } = await ask('/predict', { inputs: { input: [[...pixelsOf(i)]] } });
    const { data } = (body['outputs'] as Record<string, { data: number[] }>)['logits']!;
    right += Number(data.indexOf(Math.max(...data)) === labelOf(i));
    expect((await ask('/feedback', { id: body['id'], label: labelOf(i) })).status).toBe(204);
  }
  expect(right).toBeGreaterThan(14);
  expect(await ask('/predict', { inputs: { input: [1, 2, 3] } })).toMatchObject({
    status: 400,
    body: { error: expect.stringMatching(/3 values are not a multiple of 784/) as string },
  });
  expect((await ask('/feedback', { id: 'nonsense', label: 1 })).status).toBe(409);
  await publishNext(coordinator.service, 'digits', 0);
  await until('version 2', 60_000, async () => (await ask('/healthz')).body['version'] === 2, service.output);
  await service.end('SIGTERM');
  expect(service.child.exitCode).toBe(0);
});

test('the batch job gives a class for each row, in order, each part by one version', async () => {
  const file = join(folder, 'rows.csv');
  const count = 200;
  await writeFile(file, Array.from({ length: count }, (_, i) => [...pixelsOf(i)].join(',')).join('\n'));
  const job = sourceProgram('examples/batch/job.js', file, '--coordinator', url(), '--threads', '2');
  expect(await ended(job), job.output()).toBe(0);
  const answers = job
    .output()
    .trim()
    .split('\n')
    .map((line) => line.split(',').map(Number));
  expect(answers).toHaveLength(count);
  const right = answers.filter(([digit], i) => digit === labelOf(i)).length;
  expect(right / count).toBeGreaterThan(0.8);
  expect(new Set(answers.map(([, version]) => version)).size).toBeLessThanOrEqual(2);
});

test('each tells how it is used where it is started wrongly, and in one line what it cannot do', async () => {
  const run = async (...[path, ...args]: [string, ...string[]]): Promise<{ code: number | null; said: string }> => {
    const started = sourceProgram(`examples/${path}`, ...args);
    const code = await ended(started);
    return { code, said: started.output() };
  };
  for (const path of ['service/server.js', 'batch/job.js', 'classify/classify.js']) {
    const wrong = await run(path, '--nonsense');
    expect(wrong).toMatchObject({ code: 2, said: expect.stringMatching(/--nonsense[^]*\nusage: /) as string });
    expect(await run(path, '--help')).toMatchObject({ code: 0, said: expect.stringMatching(/^usage: /) as string });
  }
  expect(await run('batch/job.js', join(folder, 'nowhere.csv'))).toMatchObject({ code: 1 });
  const lost = await run('service/server.js', '--coordinator', 'nowhere');
  expect(lost.code).toBe(1);
  expect(lost.said).toMatch(/^service: 'nowhere' is not a coordinator's address[^\n]*\n$/);
});

test('the command says what is on images, also without the coordinator once it has been there', async () => {
  const files = await Promise.all(
    [3, 4].map(async (index) => {
      const path = join(folder, `digit-${index}.png`);
      const grey = Buffer.from(pixelsOf(index).map((value) => value * 255));
      // As large as a scan: the command makes it what the model takes.
      await sharp(grey, { raw: { width: 28, height: 28, channels: 1 } })
        .resize(280, 280)
        .png()
        .toFile(path);
      return path;
    }),
  );
  const cache = join(folder, 'classify');
  const classify = async (...args: string[]): Promise<{ code: number | null; output: string }> => {
    const command = sourceProgram('examples/classify/classify.js', ...args, '--cache', cache);
    return { code: await ended(command), output: command.output() };
  };
  const { code, output } = await classify(...files, '--coordinator', url(), '--json');
  expect(code, output).toBe(0);
  const said = output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { class: number; share: number });
  expect(said.map((one) => one.class)).toEqual([labelOf(3), labelOf(4)]);
  const offline = await classify(files[0]!, '--coordinator', 'grpc://127.0.0.1:1');
  expect(offline).toMatchObject({ code: 0, output: expect.stringContaining(`: ${labelOf(3)} (`) as string });
  const text = join(folder, 'text.png');
  await writeFile(text, 'no image');
  expect(await classify(text, '--coordinator', url())).toMatchObject({
    code: 2,
    output: expect.stringMatching(/no image can be read/) as string,
  });
  expect((await classify('--coordinator', url())).code).toBe(2);
});

test('the page in React recognises what is drawn, follows versions and takes feedback', async () => {
  await coordinator.service.importModel('drawn', await modelBytes());
  const outDir = join(folder, 'react');
  await buildExample(outDir, 'react');
  const port = await freePort();
  const pages: PreviewServer = await preview({
    configFile: false,
    logLevel: 'error',
    build: { outDir },
    preview: { host: '127.0.0.1', port, strictPort: true },
  });
  const browser = await launchChromium();
  try {
    const page = await (await browser.newContext()).newPage();
    const faults: string[] = [];
    page.on('pageerror', (error) => faults.push(error.message));
    const coordinatorUrl = encodeURIComponent(`http://127.0.0.1:${coordinator.httpPort}`);
    await page.goto(`http://127.0.0.1:${port}/?url=${coordinatorUrl}&model=drawn`);
    await page.waitForSelector('main[data-version="1"]');
    const box = await page.locator('canvas').boundingBox();
    await page.mouse.move(box!.x + 140, box!.y + 40);
    await page.mouse.down();
    await page.mouse.move(box!.x + 140, box!.y + 240, { steps: 20 });
    await page.mouse.up();
    await page.waitForSelector('output:has-text("1")');
    await page.getByRole('button', { name: 'That is right' }).click();
    await page.getByRole('button', { name: 'That is right' }).waitFor({ state: 'detached' });
    await publishNext(coordinator.service, 'drawn', 0);
    await page.waitForSelector('main[data-version="2"]');
    expect(await page.locator('output').textContent()).toBe('1');
    await page.getByRole('button', { name: 'Clear' }).click();
    await page.waitForSelector('output:empty', { state: 'attached' });
    const labelled = async (): Promise<number> =>
      (await coordinator.service.getFleets('drawn'))[0]?.versions.reduce((sum, one) => sum + Number(one.labelled), 0) ??
      0;
    await until('the feedback to be reported', 90_000, async () => (await labelled()) === 1);
    expect(faults).toEqual([]);
  } finally {
    await browser.close();
    await pages.close();
  }
});

const modelBytes = async (): Promise<Uint8Array> =>
  writeModel(await trainedOnDigits(mlp({ inputs: 784, hidden: [64], outputs: 10, seed: 1 }), 400));
