import { existsSync } from 'node:fs';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

export const CHROMIUM_MEND = 'apt-get install chromium, or name one in CHROMIUM';

/** The program of a Chromium on this machine. */
export const findChromium = (): string | undefined =>
  process.env['CHROMIUM'] ?? PLACES.find((path) => existsSync(path));
