import { chromium, type Browser } from 'playwright-core';
import { CHROMIUM_MEND, findChromium } from './find-chromium.ts';

export async function launchChromium(): Promise<Browser> {
  const executablePath = findChromium();
  if (executablePath === undefined) throw new Error(`the browser tests need Chromium: ${CHROMIUM_MEND}`);
  return await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
}
