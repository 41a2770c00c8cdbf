import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** Whether Debian's packages can be installed here. */
export const canInstallPackages = (): boolean =>
  process.platform === 'linux' &&
  process.getuid?.() === 0 &&
  existsSync('/etc/debian_version') &&
  existsSync('/usr/bin/apt-get');

/** Installs Debian's nats-server. Its service is not started: every run starts a server of its own. */
export function installNatsPackage(say: (line: string) => void): boolean {
  say('installing nats-server from the Debian packages');
  if (aptGet('install', '-y', '--no-install-recommends', 'nats-server')) return true;
  say('reading the package lists first');
  return aptGet('update') && aptGet('install', '-y', '--no-install-recommends', 'nats-server');
}

function aptGet(...args: string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  // Its words go to stderr: stdout belongs to the command that is to run.
  return spawnSync('apt-get', ['-qq', ...args], { stdio: ['ignore', 2, 2], env, timeout: 180_000 }).status === 0;
}
