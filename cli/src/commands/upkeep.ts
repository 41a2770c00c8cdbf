import { backupTo, openSigner, restoreFrom, SqliteStore, StoreError, verifyStore } from '@commonweight/coordinator';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { reporting } from '../output/arguments.ts';
import { CommandError } from '../output/failure.ts';
import { bytes } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';

interface Options {
  data: string;
  json?: boolean;
}

const DATA = '.commonweight/coordinator';

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

async function verify(options: Options): Promise<void> {
  await verifyFolder(existing(options.data), options, 'whole');
}

/** A folder that is not there would be made, and be whole. */
function existing(folder: string): string {
  const data = resolve(folder);
  if (!existsSync(join(data, 'commonweight.sqlite'))) {
    throw new StoreError(`${data} holds no coordinator's data: say where it is with --data`);
  }
  return data;
}

async function verifyFolder(data: string, options: Options, done: string): Promise<void> {
  const output = standardOutput(options);
  const store = SqliteStore.open(data);
  try {
    const { models, damages } = await verifyStore(store, openSigner(data).publicKey);
    for (const one of models) {
      const text = `${one.model}: ${one.versions} versions of ${one.updates} updates, ${bytes(one.bytes)}`;
      output.say(text, { event: 'verified', ...one });
    }
    for (const damage of damages) output.say(`DAMAGED: ${damage}`, { event: 'damage', damage });
    if (damages.length > 0) {
      throw new CommandError(`${data} is damaged in ${damages.length} places: restore it from a backup`);
    }
    output.say(`${data}: ${done}`, { event: done, data });
  } finally {
    await store.close();
  }
}
