// `npm run simulate -- --seed N [--trace]` or `--seeds A..B`: whole clusters on virtual time, checked as they go.
import { parseArgs } from 'node:util';
import { simulate } from './cluster.ts';

const USAGE = `usage: npm run simulate -- [--seed N | --seeds A..B] [--minutes M] [--trace]
  --seed N      one seed (1)
  --seeds A..B  all seeds from A to B
  --minutes M   one storm of so many simulated minutes, in place of an hour with three short ones and lulls between
  --trace       print what happens
This looks for bugs in crashes and networks. To see how well strategies learn: commonweight simulate --help`;

function wrongUsage(problem: string): never {
  console.error(`${problem}\n${USAGE}`);
  process.exit(2);
}

function whole(text: string): number {
  return /^\d{1,9}$/.test(text) ? Number(text) : wrongUsage(`'${text}' is not a seed: give a whole number`);
}

function argumentsOf(): { from: number; to: number; storms?: number; stormMs?: number; trace: boolean } {
  try {
    const { values } = parseArgs({
      options: {
        seed: { type: 'string' },
        seeds: { type: 'string' },
        minutes: { type: 'string' },
        trace: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) {
      console.log(USAGE);
      process.exit(0);
    }
    if (values.seed !== undefined && values.seeds !== undefined) wrongUsage('either --seed or --seeds');
    const [first = '', last = first, ...more] = values.seeds?.split('..') ?? [values.seed ?? '1'];
    const [from, to] = [whole(first), whole(last)];
    if (more.length > 0 || from > to) wrongUsage(`'${values.seeds}' is no range: give A..B, the smaller first`);
    const { minutes, trace } = values;
    if (minutes === undefined) return { from, to, trace };
    const stormMs = 60_000 * Number(minutes);
    if (!(stormMs > 0 && stormMs <= 6e7)) wrongUsage(`'${minutes}' is no number of minutes up to 1000`);
    return { from, to, storms: 1, stormMs, trace };
  } catch (error) {
    return wrongUsage((error as Error).message);
  }
}

// A reader such as `head` has seen enough.
process.stdout.on('error', () => process.exit());

const { from, to, trace, ...weather } = argumentsOf();
let failed = 0;
let versions = 0;
let contributions = 0;
let crashes = 0;
let simulatedMs = 0;
const startMs = performance.now();
for (let seed = from; seed <= to; seed++) {
  try {
    const report = await simulate(seed, { ...weather, ...(trace ? { trace: (line) => console.log(line) } : {}) });
    versions += report.versions;
    contributions += report.contributions;
    crashes += report.crashes;
    simulatedMs += report.simulatedMs;
    if (from === to) console.log(`seed ${seed}: versions ${report.versions}, digest ${report.digest}`);
  } catch (error) {
    failed += 1;
    console.error(`seed ${seed}: ${(error as Error).message}`);
    console.error(`  see it again: npm run simulate -- --seed ${seed} --trace`);
  }
}
const seconds = (performance.now() - startMs) / 1000;
console.log(
  `${to - from + 1} seeds, ${failed} failed: ${versions} versions of ${contributions} updates, ${crashes} crashes of the coordinator, ${(simulatedMs / 3.6e6).toFixed(1)} simulated hours in ${seconds.toFixed(1)} s`,
);
process.exit(failed === 0 ? 0 : 1);
