/**
 * Given to a process with `--import` and `--expose-gc`: lets go of what is not needed every few seconds, so that what is left can be
 * compared, and writes down how much that is, and how much the system has given.
 */
import { appendFileSync } from 'node:fs';

const EVERY_MS = 5_000;
const { MEMORY_FILE: file } = process.env;
const { gc } = globalThis as { gc?: () => void };

// A process that this one starts is not the one that is looked at.
delete process.env.MEMORY_FILE;

if (file !== undefined && gc !== undefined) {
  setInterval(() => {
    gc();
    const { heapUsed, external, rss } = process.memoryUsage();
    appendFileSync(file, `${performance.timeOrigin + performance.now()} ${heapUsed + external} ${rss}\n`);
  }, EVERY_MS).unref();
}
