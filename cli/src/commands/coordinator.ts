import type { KeepVersions, StartOptions } from '@commonweight/coordinator';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { keepVersions } from '../model/keep-versions.ts';
import {
  coordinatorUrl,
  duration,
  gathered,
  GRPC_ADDRESS,
  HTTP_ADDRESS,
  reporting,
  whole,
} from '../output/arguments.ts';
import { standardOutput } from '../output/output.ts';
import { aborted, stopSignal, tellParent } from '../output/stop-signal.ts';

interface Options {
  data: string;
  grpc: string;
  http: string;
  nats?: string;
  postgres?: string;
  strategy?: string[];
  httpOrigin?: string[];
  diskMax?: number;
  keepVersions?: KeepVersions;
  channelLifetime: number;
  backup?: string;
  backupEvery: number;
  backupKeep: number;
  json?: boolean;
}

export function addCoordinator(program: Command): void {
  reporting(program.command('coordinator'))
    .description('run the service that turns updates into versions')
    .option('--data <dir>', 'folder of its database', '.commonweight/coordinator')
    .option('--grpc <address>', 'where gRPC listens', GRPC_ADDRESS)
    .option('--http <address>', 'where health, metrics and the status page listen', HTTP_ADDRESS)
    .option('--nats <url>', 'a NATS server to listen on as well', coordinatorUrl('nats'))
    .option('--postgres <url>', 'a database for several coordinators, of which one leads and all work')
    .option('--http-origin <origin>', 'pages that may read models beside those of this machine; repeatable', gathered)
    .option('--strategy <file>', 'a strategy of your own, for tasks to use by its name; repeatable', gathered)
    .option('--disk-max <MiB>', 'the most that its database may take of the disk', whole(1, 2 ** 30))
    .option(
      '--keep-versions <n>',
      'newest versions that stay whole, of all models or, as MODEL=N, of one; repeatable; without it all do',
      keepVersions,
    )
    .option(
      '--channel-lifetime <time>',
      'how long what a channel says holds; said anew after half of it',
      duration,
      86_400_000,
    )
    .option('--backup <dir>', 'back the data folder up into folders in here, now and again and again')
    .option('--backup-every <minutes>', 'how often', whole(1, 525_600), 60)
    .option('--backup-keep <n>', 'how many backups stay', whole(1, 10_000), 24)
    .action(runCoordinator);
}

async function runCoordinator(options: Options): Promise<void> {
  const output = standardOutput(options);
  const signal = stopSignal();
  const dataDir = resolve(options.data);
  const { grpc, http, nats, postgres } = options;
  const { startCoordinator } = await import('@commonweight/coordinator');
  const log = (line: string): void => output.say(line, { event: 'log', line });
  const running = await startCoordinator({
    dataDir,
    grpc,
    http,
    log,
    onFollowing: (leader) =>
      output.say(`another coordinator leads (${leader}); this one shares its work, and leads when it ends`, {
        event: 'following',
        leader,
      }),
    ...(postgres === undefined
      ? {}
      : { onLeading: (epoch: number) => output.say(`leading, epoch ${epoch}`, { event: 'leading', epoch }) }),
    ...(postgres === undefined ? {} : { postgres }),
    channelLifetimeMs: options.channelLifetime,
    ...(nats === undefined ? {} : { nats }),
    ...(options.httpOrigin === undefined ? {} : { origins: options.httpOrigin }),
    ...(options.strategy === undefined ? {} : { strategies: options.strategy }),
    ...(options.keepVersions === undefined ? {} : { keepVersions: options.keepVersions }),
    ...(options.backup === undefined ? {} : { backups: scheduleOf(options.backup, options) }),
    ...(options.diskMax === undefined ? {} : { diskBytesMax: options.diskMax * 2 ** 20 }),
  });
  const { grpcPort, httpPort } = running;
  const at = (address: string, port: number): string => `${address.replace(/:\d*$/, '')}:${port}`;
  const listening = {
    event: 'listening',
    grpc: at(grpc, grpcPort),
    http: at(http, httpPort),
    nats: nats ?? null,
    dataDir,
  };
  tellParent({ ...listening, grpcPort, httpPort });
  output.say(
    [
      `coordinator  grpc://${listening.grpc}`,
      `status page  http://${listening.http}`,
      ...(nats === undefined ? [] : [`NATS         ${nats}`]),
      `data         ${dataDir}`,
    ].join('\n'),
    listening,
  );
  const ended = new AbortController();
  try {
    await Promise.race([aborted(AbortSignal.any([signal, ended.signal])), running.failed]);
  } finally {
    // Else the wait for a signal would keep a process alive whose store has failed.
    ended.abort();
    output.say('ending', { event: 'ending' });
    await running.close();
  }
}

const scheduleOf = (folder: string, { backupEvery, backupKeep }: Options): StartOptions['backups'] & {} => ({
  folder: resolve(folder),
  everyMs: backupEvery * 60_000,
  keep: backupKeep,
});
