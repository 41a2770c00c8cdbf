import { existsSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CHROMIUM_MEND, findChromium } from './find-chromium.ts';

const MANIFEST = 'vk_swiftshader_icd.json';

/**
 * What a process needs in its environment for SwiftShader to play its GPU: the Vulkan that every Chromium brings, in software. It tells
 * whether something is computed rightly on WebGPU, and nothing of speed.
 */
export function swiftShaderEnvironment(): { VK_ICD_FILENAMES: string; LD_LIBRARY_PATH: string } {
  const chromium = findChromium();
  const folders = ['/usr/lib/chromium', ...(chromium === undefined ? [] : [dirname(realpathSync(chromium))])];
  const folder = folders.find((one) => existsSync(join(one, MANIFEST)));
  if (folder === undefined) throw new Error(`WebGPU is tried with Chromium's SwiftShader: ${CHROMIUM_MEND}`);
  // The Vulkan loader is beside it.
  const LD_LIBRARY_PATH = [folder, process.env['LD_LIBRARY_PATH']].filter(Boolean).join(':');
  return { VK_ICD_FILENAMES: join(folder, MANIFEST), LD_LIBRARY_PATH };
}
