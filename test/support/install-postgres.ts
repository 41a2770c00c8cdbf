// What scripts/setup.mjs runs before tests: makes sure of a PostgreSQL, installed from Debian's packages where that is possible.
import { spawnSync } from 'node:child_process';
import { canInstallPackages } from '../../cli/src/nats/install-package.ts';
import { findPostgres, POSTGRES_MEND } from './postgres.ts';

const say = (line: string): void => void process.stderr.write(`${line}\n`);

function aptGet(...args: string[]): boolean {
  // Its service is not started: every run starts a server of its own.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  return spawnSync('apt-get', ['-qq', ...args], { stdio: ['ignore', 2, 2], env, timeout: 300_000 }).status === 0;
}

function install(): boolean {
  say('installing postgresql from the Debian packages');
  const packages = ['install', '-y', '--no-install-recommends', 'postgresql'];
  return aptGet(...packages) || (aptGet('update') && aptGet(...packages));
}

const isThere = findPostgres() !== undefined || (canInstallPackages() && install() && findPostgres() !== undefined);
if (!isThere) {
  say(`the tests need PostgreSQL and there is none: ${POSTGRES_MEND}`);
  process.exitCode = 1;
}
