// A process that commits one version after the other to the folder it is given, says each number once it is durable, and is
// meant to be killed.
import { SqliteStore } from '../../coordinator/src/store/sqlite-store.ts';
import { commitOf } from './commit-records.ts';

// Large, so that most of a commit's time is spent in the middle of it.
const BLOB_BYTES = 1_000_000;
const [, , folder = '', first = '1'] = process.argv;
const store = SqliteStore.open(folder);
let next = commitOf(Number(first), BLOB_BYTES);
for (let version = Number(first); ; version++) {
  await store.commit(next);
  // Made before the number is said, so that whoever hears it and kills finds the next commit under way.
  next = commitOf(version + 1, BLOB_BYTES);
  process.stdout.write(`${version}\n`);
}
