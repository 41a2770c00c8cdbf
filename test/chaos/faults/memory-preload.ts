/**
 * Given to a process with `--import` and `--expose-gc`: lets go of all that is not needed three times a minute, so that what is left can be
 * compared, and writes down how much that is, and how much the system has given.
 */
import { appendFileSync } from 'node:fs';

const EVERY_MS = 20_000;
const { MEMORY_FILE: file } = process.env;
interface Collecting {
  type: 'major';
  execution: 'sync';
  flavor: 'last-resort';
}
const { gc } = globalThis as { gc?: (how: Collecting) => void };

// A process that this one starts is not the one that is looked at.
delete process.env.MEMORY_FILE;

if (file !== undefined && gc !== undefined) {
  setInterval(() => {
    // Moves together what is left and gives the pages back, as V8 does where memory is short: a usual collection keeps them.
    gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    const { heapUsed, external, rss } = process.memoryUsage();
    appendFileSync(file, `${performance.timeOrigin + performance.now()} ${heapUsed + external} ${rss}\n`);
  }, EVERY_MS).unref();
}
