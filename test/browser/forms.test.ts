/** Forms and engines in a page: made and measured there, or published by the coordinator, in WebAssembly and on a GPU. */
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { mlp, writeModel } from '@commonweight/core';
import { VariantListSchema } from '@commonweight/proto';
import type { ServedVariant } from '@commonweight/client-sdk';
import type { Browser, Page } from 'playwright-core';
import { preview, type PreviewServer } from 'vite';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { openSession } from '../support/digit-models.ts';
import { freePort } from '../support/free-port.ts';
import { temporaryFolder } from '../support/processes.ts';
import { Tensor } from 'onnxruntime-node';
import { buildPage } from './build.ts';
import { launchChromium } from './chromium.ts';

const onnx = writeModel(mlp({ inputs: 784, hidden: [256, 256], outputs: 10, seed: 1 }));
const browsers: Record<'plain' | 'gpu', Browser> = {} as Record<'plain' | 'gpu', Browser>;
let pages: PreviewServer;
let coordinator: RunningCoordinator;
let pagePort = 0;

beforeAll(async () => {
  pagePort = await freePort();
  coordinator = await startCoordinator({
    dataDir: temporaryFolder('forms'),
    grpc: '127.0.0.1:0',
    http: '127.0.0.1:0',
  });
  for (const name of ['own', 'published']) await coordinator.service.importModel(name, onnx);
  const outDir = join(temporaryFolder('forms-page'), 'dist');
  await buildPage('test/browser/forms-page', outDir);
  pages = await preview({
    configFile: false,
    logLevel: 'error',
    build: { outDir },
    preview: { host: '127.0.0.1', port: pagePort, strictPort: true },
  });
  browsers.plain = await launchChromium();
  browsers.gpu = await launchChromium(['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader']);
}, 180_000);
afterAll(async () => {
  for (const browser of Object.values(browsers)) await browser.close();
  await pages.close();
  await coordinator.close();
});

const opened: Page[] = [];
const faults: Error[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((page) => page.context().close()));
  expect(faults.splice(0)).toEqual([]);
});

async function open(browser: Browser): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  opened.push(page);
  page.on('pageerror', (error) => faults.push(error));
  await page.goto(`http://127.0.0.1:${pagePort}/`);
  return page;
}

interface Served {
  variant: ServedVariant;
  version: number;
  output: number[];
}

const served = (page: Page, model: string, options: object): Promise<Served> =>
  page.evaluate(
    ([url, name, given]) =>
      (globalThis as unknown as { serve(...args: unknown[]): Promise<Served> }).serve(url, name, given),
    [`http://127.0.0.1:${coordinator.httpPort}`, model, options] as const,
  );

/** What the CPU says to the input of the page. */
async function exact(): Promise<number[]> {
  const session = await openSession(onnx);
  const input = Float32Array.from({ length: 784 }, (_, index) => Math.sin(index));
  const outputs = await session.run({ input: new Tensor('float32', input, [1, 784]) });
  return [...(Object.values(outputs)[0]!.data as Float32Array)];
}

const near = (output: readonly number[], wanted: readonly number[], share: number): void => {
  const most = Math.max(...wanted.map(Math.abs));
  output.forEach((value, index) => expect(Math.abs(value - wanted[index]!)).toBeLessThanOrEqual(share * most));
};

test('a page makes int8 itself, measures it once, and serves what is fastest', async () => {
  const page = await open(browsers.plain);
  const options = { variant: { choice: 'auto' }, cacheDir: 'forms' };
  const first = await served(page, 'own', options);
  expect(first.variant.candidates.map(({ name, engine, runMs }) => [name, engine, runMs?.length])).toEqual([
    ['fp32', 'ort-web', 2],
    ['int8-dynamic', 'ort-web', 2],
  ]);
  const [fp32, int8] = first.variant.candidates.map(({ runMs }) => runMs!.map(({ ms }) => ms));
  const isFaster =
    int8!.every((ms, index) => ms <= fp32![index]!) && int8!.some((ms, index) => ms * 1.05 <= fp32![index]!);
  expect(first.variant.name).toBe(isFaster ? 'int8-dynamic' : 'fp32');
  near(first.output, await exact(), 0.05);
  // What was measured is kept with the page's origin.
  await page.reload();
  const again = await served(page, 'own', options);
  expect(again.variant.candidates.map(({ runMs }) => runMs)).toEqual(
    first.variant.candidates.map(({ runMs }) => runMs),
  );
}, 120_000);

test('a page takes a form that is published', async () => {
  const { service } = coordinator;
  await service.makeVariants('published', 1, { forms: ['int8-blocks'], accuracyDropPointsMax: 0.5 });
  const { list } = (await service.getVariants('published', 1))!;
  const { digest } = fromBinary(VariantListSchema, list).variants[0]!;
  await service.reportVariant({
    model: 'published',
    version: 1,
    form: 'int8-blocks',
    digest,
    measurement: {
      $typeName: 'commonweight.v1.VariantMeasurement',
      data: 'sines',
      examples: 500n,
      difference: 0.001,
      agreement: 1,
      accuracy: { $typeName: 'commonweight.v1.VariantAccuracy', float32: 0.9, variant: 0.9 },
    },
  });
  const { variant, output } = await served(await open(browsers.plain), 'published', { variant: { choice: 'int8' } });
  const blocks = variant.candidates.find(({ name }) => name === 'int8-blocks');
  expect(blocks).toMatchObject({ engine: 'ort-web', published: expect.stringContaining('500 examples') as string });
  expect(['int8-blocks', 'int8-dynamic']).toContain(variant.name);
  near(output, await exact(), 0.05);
}, 120_000);

test('on a GPU a model answers what it answers on the CPU, and auto takes what is faster', async () => {
  const page = await open(browsers.gpu);
  const onGpu = await served(page, 'own', { withWebGpu: true, engine: 'ort-webgpu' });
  expect(onGpu.variant).toMatchObject({ name: 'fp32', engine: 'ort-webgpu' });
  near(onGpu.output, await exact(), 1e-3);
  const auto = await served(page, 'own', { withWebGpu: true, engine: 'auto' });
  expect(auto.variant.candidates.map(({ name, engine }) => [name, engine])).toEqual([
    ['fp32', 'ort-web'],
    ['fp32', 'ort-webgpu'],
  ]);
  // A GPU that is made of the CPU is none that helps.
  expect(auto.variant).toMatchObject({
    engine: 'ort-web',
    why: expect.stringMatching(/^fp32 on ort-webgpu (takes|is only) [\d.]+ times as/) as string,
  });
  near(auto.output, await exact(), 1e-3);
}, 120_000);

test('a page without WebGPU is told so, and auto takes what there is', async () => {
  const page = await open(browsers.plain);
  await expect(served(page, 'own', { withWebGpu: true, engine: 'ort-webgpu' })).rejects.toThrow(
    /ort-webgpu does not work here: .*'auto' takes what works/,
  );
  await expect(served(page, 'own', { engine: 'ort-webgpu' })).rejects.toThrow(
    "there is no engine 'ort-webgpu' here: take ort-web or auto",
  );
  expect((await served(page, 'own', { withWebGpu: true, engine: 'auto' })).variant).toMatchObject({
    name: 'fp32',
    engine: 'ort-web',
  });
}, 120_000);
