/**
 * Given to a process with `--import` and `--expose-gc`: lets go of what is not needed every few seconds, so that what is left can be
 * compared, and writes down how much that is.
 */
import { appendFileSync } from 'node:fs';

const EVERY_MS = 5_000;
const { MEMORY_FILE: file } = process.env;
const { gc } = globalThis as { gc?: () => void };

if (file !== undefined && gc !== undefined) {
  setInterval(() => {
    gc();
    const { heapUsed, external } = process.memoryUsage();
    appendFileSync(file, `${performance.timeOrigin + performance.now()} ${heapUsed + external}\n`);
  }, EVERY_MS).unref();
}
