// The situations of test/support/situations.ts in Chromium: over HTTP, and over NATS by WebSocket.
import { join } from 'node:path';
import type { Prediction } from '@commonweight/client-sdk';
import type { Browser, Page } from 'playwright-core';
import { preview, type PreviewServer } from 'vite';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { temporaryFolder } from '../support/processes.ts';
import { openServers, type OpenServers } from '../support/situation-servers.ts';
import { situations, type AppModel, type Apps } from '../support/situations.ts';
import { buildPage } from './build.ts';
import { launchChromium } from './chromium.ts';
import { packed, unpacked } from './packed.ts';

const LOOK_MS = 25;

const at: OpenServers = await openServers();
const pagePort = await freePort();
let browser: Browser;
let pages: PreviewServer;
let apps: PageApps | undefined;
const faults: Error[] = [];

beforeAll(async () => {
  await at.startNats();
  const outDir = join(temporaryFolder('situations-page'), 'dist');
  await buildPage('test/browser/situations-page', outDir);
  pages = await preview({
    configFile: false,
    logLevel: 'error',
    build: { outDir },
    preview: { host: '127.0.0.1', port: pagePort, strictPort: true },
  });
  browser = await launchChromium();
}, 180_000);
afterAll(async () => {
  await browser.close();
  await pages.close();
  await at.endNats();
});
beforeEach(() => at.open());
afterEach(async () => {
  await apps?.end();
  apps = undefined;
  await at.publisher.close();
  expect(faults.splice(0)).toEqual([]);
});

/** Apps in one page, which goes on being looked at. */
class PageApps {
  readonly #page: Page;
  readonly #url: string;
  readonly #listeners: ((event: unknown) => void)[] = [];
  #stand: { version?: number; status: string }[] = [];
  #looking: ReturnType<typeof setInterval>;

  private constructor(page: Page, url: string) {
    this.#page = page;
    this.#url = url;
    this.#looking = setInterval(() => void this.#do('look').catch(() => clearInterval(this.#looking)), LOOK_MS);
  }

  static async open(url: string): Promise<PageApps> {
    const page = await (await browser.newContext()).newPage();
    page.on('pageerror', (error) => faults.push(error));
    await page.goto(`http://127.0.0.1:${pagePort}/`);
    await page.waitForFunction(() => 'app' in globalThis);
    return new PageApps(page, url);
  }

  async model(connecting: object, options: { bootstrap?: () => unknown }): Promise<AppModel> {
    const { bootstrap, ...others } = options;
    const bundle = bootstrap === undefined ? {} : { bootstrap: await bootstrap() };
    const id = (await this.#do(
      'open',
      this.#url,
      { readyTimeoutMs: 60_000, ...connecting },
      { ...others, ...bundle },
    )) as number;
    const stand = () => this.#stand[id]!;
    const predicted = (deed: string, of: unknown, ...inputs: unknown[]) =>
      this.#do(deed, of, ...inputs) as Promise<Prediction>;
    return {
      get version() {
        return stand().version;
      },
      get status() {
        return stand().status;
      },
      predict: (inputs) => predicted('predict', id, inputs),
      begin: async (inputs) => {
        const begun = await this.#do('begin', id, inputs);
        return () => this.#do('begun', begun) as Promise<Prediction[]>;
      },
      hold: async () => {
        const held = await this.#do('hold', id);
        const release = async (): Promise<void> => void (await this.#do('release', held));
        return { predict: (inputs) => predicted('predictHeld', held, inputs), release };
      },
      on: async (name, listener) => void (await this.#do('on', id, name, this.#listeners.push(listener) - 1)),
      reportFailure: async (reason) => void (await this.#do('reportFailure', id, reason)),
    };
  }

  async closeAll(): Promise<void> {
    await this.#do('close');
  }

  async end(): Promise<void> {
    clearInterval(this.#looking);
    await this.#do('close');
    await this.#page.context().close();
  }

  async #do(deed: string, ...args: unknown[]): Promise<unknown> {
    const answering = this.#page.evaluate(
      ([what, text]) =>
        (globalThis as unknown as { app: (deed: string, args: string) => Promise<string> }).app(what, text),
      [deed, packed(args)] as const,
    );
    const { result, error, heard, stand } = unpacked(await answering) as {
      result?: unknown;
      error?: Error;
      heard: [number, unknown][];
      stand: { version?: number; status: string }[];
    };
    // The page's answers come in the order in which they were given.
    for (const [listener, event] of heard) this.#listeners[listener]?.(event);
    this.#stand = stand;
    if (error !== undefined) throw error;
    return result;
  }
}

describe.each([
  ['http', `http://127.0.0.1:${at.ports.http}`],
  ['ws', `ws://127.0.0.1:${at.webSocketPort}`],
])('in a page over %s', (kind, url) => {
  const ofPage: Apps = {
    isOverNats: kind === 'ws',
    open: async (connecting = {}, options = {}) => (apps ??= await PageApps.open(url)).model(connecting, options),
    close: async () => apps?.closeAll(),
  };
  situations(at, ofPage);
});
