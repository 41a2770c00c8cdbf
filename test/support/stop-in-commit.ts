// A process that commits version 1 to the folder it is given, begins version 2, says so and stops in the middle of it, where
// it is told, until it is killed.
import { writeSync } from 'node:fs';
import type { Commit } from '../../coordinator/src/store/store.ts';
import { SqliteStore } from '../../coordinator/src/store/sqlite-store.ts';
import { commitOf, type WholeCommit } from './commit-records.ts';

const [, , folder = '', place = ''] = process.argv;
const store = SqliteStore.open(folder);
await store.commit(commitOf(1));
await store.commit(stopping(commitOf(2), place));

/** The same commit, in which reading one part never comes to an end. */
function stopping({ version, blobs, receipts, task }: WholeCommit, at: string): Commit {
  switch (at) {
    case 'blobs':
      return { version, blobs: [blobs[0]!, stop(blobs[1]!, 'data')], receipts, task };
    case 'version':
      return { version: stop(version, 'signature'), blobs, receipts, task };
    case 'receipts':
      return { version, blobs, receipts: [receipts[0]!, stop(receipts[1]!, 'signature')], task };
    case 'task':
      return { version, blobs, receipts, task: stop(task, 'countersJson') };
    default:
      throw new Error(`a commit has no ${at}`);
  }
}

function stop<T extends object>(record: T, key: keyof T): T {
  const get = (): never => {
    writeSync(1, 'stopped\n');
    for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  };
  return Object.defineProperty({ ...record }, key, { get });
}
