// `npm run bench -- NAME [--json]`: the published figures. The last line is one JSON object; before it a table for people.
import { cpus, totalmem } from 'node:os';
import { parseArgs } from 'node:util';

interface Bench {
  run(): Promise<Record<string, number | null>>;
}

const benches: Record<string, () => Promise<Bench>> = {
  aggregate: () => import('./aggregate.ts'),
  infer: () => import('./infer.ts'),
  round: () => import('./round.ts'),
  train: () => import('./train.ts'),
};

const USAGE = `usage: npm run bench -- NAME [--json]\n  NAME is one of ${Object.keys(benches).join(', ')}`;

function wrongUsage(problem: string): never {
  console.error(`${problem}\n${USAGE}`);
  process.exit(2);
}

function argumentsOf(): { name: string; json: boolean } {
  try {
    const { positionals, values } = parseArgs({
      allowPositionals: true,
      options: { json: { type: 'boolean', default: false }, help: { type: 'boolean', short: 'h', default: false } },
    });
    if (values.help) {
      console.log(USAGE);
      process.exit(0);
    }
    const [name, ...others] = positionals;
    if (name === undefined || others.length > 0) wrongUsage('one benchmark at a time');
    return { name, json: values.json };
  } catch (error) {
    return wrongUsage((error as Error).message);
  }
}

const { name, json } = argumentsOf();
const load = Object.hasOwn(benches, name) ? benches[name] : undefined;
if (load === undefined) wrongUsage(`there is no benchmark '${name}'`);
const figures = await (await load()).run();
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
if (!json) for (const [key, value] of Object.entries(rounded)) console.log(`${key.padEnd(32)} ${value ?? '-'}`);
console.log(JSON.stringify({ bench: name, machine, figures: rounded }));
process.exit(0);
