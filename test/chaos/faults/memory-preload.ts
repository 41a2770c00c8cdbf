/**
 * Given to a process with `--import` and `--expose-gc`: lets go of all that is not needed three times a minute, so that what is left can be
 * compared, and writes down how much that is, how much the system has given, and how much of both is compiled code: V8 goes on for an hour
 * to compile what is called now and then, up to a program's size.
 */
import { appendFileSync } from 'node:fs';
import { getHeapSpaceStatistics } from 'node:v8';

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
    const code = getHeapSpaceStatistics().filter(({ space_name }) => /code|trusted/.test(space_name));
    const codeUsed = code.reduce((sum, { space_used_size }) => sum + space_used_size, 0);
    const codeGiven = code.reduce((sum, { physical_space_size }) => sum + physical_space_size, 0);
    const line = [performance.timeOrigin + performance.now(), heapUsed + external, rss, codeUsed, codeGiven];
    appendFileSync(file, `${line.join(' ')}\n`);
  }, EVERY_MS).unref();
}
