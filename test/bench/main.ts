// `npm run bench -- NAME [--json]`: the published figures. `papers` and `encodings` take --quick and --data DIR too, see there. The last line is one JSON object; before it a table for people.
import { cpus, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import { BenchError } from '../support/bench-error.ts';
import type { Report } from './report.ts';

interface Options {
  quick: boolean;
  data: string | undefined;
}

interface Bench {
  /** A benchmark has one of the two. */
  run?(options: Options): Promise<Record<string, number | null>>;
  report?(options: Options): Promise<Report>;
  /** What others published for a figure of the same name, and where. */
  published?: Readonly<Record<string, { value: number; source: string }>>;
}

const benches: Record<string, () => Promise<Bench>> = {
  aggregate: () => import('./aggregate.ts'),
  asynchronous: () => import('./asynchronous.ts'),
  encodings: () => import('./encodings.ts'),
  'few-bits': () => import('./few-bits.ts'),
  fleet: () => import('./fleet.ts'),
  import: () => import('./import.ts'),
  infer: () => import('./infer.ts'),
  memory: () => import('./memory.ts'),
  models: () => import('./models.ts'),
  pace: () => import('./pace.ts'),
  papers: () => import('./papers.ts'),
  recovery: () => import('./recovery.ts'),
  relay: () => import('./relay.ts'),
  round: () => import('./round.ts'),
  sdk: () => import('./sdk.ts'),
  serve: () => import('./serve.ts'),
  train: () => import('./train.ts'),
};

const USAGE = `usage: npm run bench -- NAME [--json] [--quick] [--data DIR]\n  NAME is one of ${Object.keys(benches).join(', ')}`;

function wrongUsage(problem: string): never {
  console.error(`${problem}\n${USAGE}`);
  process.exit(2);
}

function argumentsOf(): { name: string; json: boolean; quick: boolean; data: string | undefined } {
  try {
    const { positionals, values } = parseArgs({
      allowPositionals: true,
      options: {
        json: { type: 'boolean', default: false },
        quick: { type: 'boolean', default: false },
        data: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) {
      console.log(USAGE);
      process.exit(0);
    }
    const [name, ...others] = positionals;
    if (name === undefined || others.length > 0) wrongUsage('one benchmark at a time');
    return { name, json: values.json, quick: values.quick, data: values.data };
  } catch (error) {
    return wrongUsage((error as Error).message);
  }
}

async function reportOf({ run, report }: Bench): Promise<Partial<Report> & Pick<Report, 'figures'>> {
  try {
    if (report !== undefined) return await report({ quick, data });
    return { figures: (await run?.({ quick, data })) ?? {} };
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    console.error(`bench ${name}: ${error.message}`);
    process.exit(1);
  }
}

const { name, json, quick, data } = argumentsOf();
const load = Object.hasOwn(benches, name) ? benches[name] : undefined;
if (load === undefined) wrongUsage(`there is no benchmark '${name}'`);
const bench = await load();
const { published = {} } = bench;
const { figures, text, details, failures } = await reportOf(bench);
const rounded = Object.fromEntries(
  Object.entries(figures).map(([key, value]) => [key, value === null ? null : Number(value.toPrecision(4))]),
);
const [cpu] = cpus();
const machine = {
  cpu: cpu?.model.trim() ?? 'unknown',
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  node: process.version,
  platform: `${process.platform}-${process.arch}`,
};
if (!json && text !== undefined) console.log(text);
for (const [key, value] of json || text !== undefined ? [] : Object.entries(rounded)) {
  const theirs = published[key];
  const beside = theirs === undefined ? '' : `   published ${theirs.value} (${theirs.source})`;
  console.log(`${key.padEnd(32)} ${String(value ?? 'not run').padEnd(9)}${beside}`.trimEnd());
}
const values = Object.fromEntries(Object.entries(published).map(([key, { value }]) => [key, value]));
console.log(
  JSON.stringify({
    bench: name,
    machine,
    figures: rounded,
    ...details,
    ...(Object.keys(values).length > 0 && { published: values }),
  }),
);
for (const failure of failures ?? []) console.error(`FAILED ${failure}`);
process.exit(failures === undefined || failures.length === 0 ? 0 : 1);
