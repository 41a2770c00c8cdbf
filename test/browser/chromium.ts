import { chromium, type Browser } from 'playwright-core';
import { CHROMIUM_MEND, findChromium } from './find-chromium.ts';

/** A browser without a GPU, unless more arguments say otherwise. */
export async function launchChromium(more: readonly string[] = ['--disable-gpu']): Promise<Browser> {
  const executablePath = findChromium();
  if (executablePath === undefined) throw new Error(`the browser tests need Chromium: ${CHROMIUM_MEND}`);
  return await chromium.launch({ executablePath, args: ['--no-sandbox', ...more] });
}
