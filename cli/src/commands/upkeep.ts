import { backupTo, repairBlobs, restoreFrom, SqliteStore, verifyStore } from '@commonweight/coordinator';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { openBlobSource } from '../admin/blob-source.ts';
import { DATA, existing, withStore } from '../admin/open-store.ts';
import { reporting } from '../output/arguments.ts';
import { CommandError } from '../output/failure.ts';
import { bytes } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';

interface Options {
  data: string;
  postgres?: string;
  json?: boolean;
}

/** What is done to a coordinator's data folder while no coordinator uses it. */
export function addUpkeep(program: Command): void {
  reporting(program.command('backup'))
    .description('copy the data folder of a coordinator that is stopped (a running one: coordinator --backup)')
    .argument('<folder>', 'where to; it must not be there yet')
    .option('--data <dir>', "the coordinator's folder", DATA)
    .action(backup);
  reporting(program.command('restore'))
    .description('make a data folder from a backup, and verify it')
    .argument('<backup>', 'a folder that backup wrote')
    .option('--data <dir>', 'the new folder; it must be empty', DATA)
    .action(restore);
  reporting(program.command('verify'))
    .description('read a data folder from end to end: digests, signatures, chains, contributions and receipts')
    .option('--data <dir>', "the coordinator's folder", DATA)
    .option('--postgres <url>', 'the database of several coordinators, which may run; --data has their key')
    .option(
      '--repair-from <source>',
      'mend damaged blobs from a backup, the folder of an agent, or a coordinator (grpc://127.0.0.1:8443)',
    )
    .action(verify);
}

async function backup(folder: string, options: Options): Promise<void> {
  const data = existing(options.data);
  const target = resolve(folder);
  const store = SqliteStore.open(data);
  try {
    await backupTo(store, data, target);
  } finally {
    await store.close();
  }
  await verifyFolder(target, options, 'backed up');
}

async function restore(source: string, options: Options): Promise<void> {
  const data = resolve(options.data);
  restoreFrom(resolve(source), data);
  await verifyFolder(data, options, 'restored');
}

async function verify(options: Options & { repairFrom?: string }): Promise<void> {
  if (options.repairFrom !== undefined) await repair(options, options.repairFrom);
  await verifyFolder(resolve(options.data), options, 'whole');
}

/** Mends what can be; what cannot is said, and found again by who verifies. */
async function repair(options: Options, from: string): Promise<void> {
  const output = standardOutput(options);
  const source = openBlobSource(from);
  try {
    await withStore(options, async (store, publicKey) => {
      const { blobs } = await verifyStore(store, publicKey);
      for await (const { digest, why } of repairBlobs(store, blobs, source)) {
        const blob = Buffer.from(digest).toString('hex');
        if (why === undefined) output.say(`repaired: blob ${blob} from ${source.name}`, { event: 'repaired', blob });
        else output.say(`NOT REPAIRED: ${why}`, { event: 'not repaired', blob, why });
      }
    });
  } finally {
    await source.close();
  }
}

async function verifyFolder(data: string, options: Options, done: string): Promise<void> {
  const output = standardOutput(options);
  const { postgres } = options;
  const { models, damages, blobs } = await withStore({ ...options, data }, (store, key) => verifyStore(store, key));
  for (const one of models) {
    const also = [
      ...(one.collected > 0 ? [`${one.collected} of them collected`] : []),
      ...(one.retained > 0 ? [`${one.retained} updates retained`] : []),
    ];
    const text = `${one.model}: ${[`${one.versions} versions of ${one.updates} updates`, bytes(one.bytes), ...also].join(', ')}`;
    output.say(text, { event: 'verified', ...one });
  }
  for (const damage of damages) output.say(`DAMAGED: ${damage}`, { event: 'damage', damage });
  const what = postgres === undefined ? data : 'the database';
  if (damages.length > 0) {
    const mend = blobs.length > 0 ? 'mend its blobs with --repair-from, or restore it' : 'restore it';
    throw new CommandError(`${what} is damaged in ${damages.length} places: ${mend} from a backup`);
  }
  output.say(`${what}: ${done}`, { event: done, data });
}
