// What scripts/setup.mjs runs before tests: makes sure of a Chromium, installed from Debian's packages where that is possible.
import { spawnSync } from 'node:child_process';
import { canInstallPackages } from '../../cli/src/nats/install-package.ts';
import { CHROMIUM_MEND, findChromium } from '../browser/find-chromium.ts';

const say = (line: string): void => void process.stderr.write(`${line}\n`);

function aptGet(...args: string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return spawnSync('apt-get', ['-qq', ...args], { stdio: ['ignore', 2, 2], env, timeout: 300_000 }).status === 0;
}

function install(): boolean {
  say('installing chromium from the Debian packages');
  const packages = ['install', '-y', '--no-install-recommends', 'chromium'];
  return aptGet(...packages) || (aptGet('update') && aptGet(...packages));
}

const isThere = findChromium() !== undefined || (canInstallPackages() && install() && findChromium() !== undefined);
if (!isThere) {
  say(`the tests need Chromium and there is none: ${CHROMIUM_MEND}`);
  process.exitCode = 1;
}
