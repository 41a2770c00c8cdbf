// `npm run chaos`: harm to real processes, files, links and whole simulated clusters, and the figures of what is left.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import { bitFlips } from './bit-flips.ts';
import { crashPoints, crashPointsPostgres } from './crash-points/section.ts';
import { faultSections } from './faults/index.ts';
import { hostileUpdates } from './hostile-updates.ts';
import type { Section, SectionReport } from './section.ts';
import { simulatedClusters } from './simulated-clusters.ts';

const sections: readonly Section[] = [
  simulatedClusters,
  hostileUpdates,
  bitFlips,
  crashPoints,
  crashPointsPostgres,
  ...faultSections,
];

const USAGE = `usage: npm run chaos -- [--minutes M] [--seed S] [--only NAME[,NAME]] [--at-once N] [--json]
  --minutes M  about how long all of it may take together (10); each harm is done at least once
  --seed S     which harm is done (1); when what falls, the machine decides
  --only NAME  these sections: ${sections.map(({ name }) => name).join(', ')}
  --at-once N  so many sections at the same time (1): most of the time they wait for what comes back
  --json       one JSON object at the end, and the lines of progress on standard error`;

interface Arguments {
  minutes: number;
  seed: number;
  chosen: readonly Section[];
  atOnce: number;
  json: boolean;
}

function wrongUsage(problem: string): never {
  console.error(`${problem}\n${USAGE}`);
  process.exit(2);
}

function argumentsOf(): Arguments {
  const given = (() => {
    try {
      return parseArgs({
        options: {
          minutes: { type: 'string', default: '10' },
          seed: { type: 'string', default: '1' },
          only: { type: 'string', multiple: true },
          'at-once': { type: 'string', default: '1' },
          json: { type: 'boolean', default: false },
          help: { type: 'boolean', short: 'h', default: false },
        },
      }).values;
    } catch (error) {
      return wrongUsage((error as Error).message);
    }
  })();
  if (given.help) {
    console.log(USAGE);
    process.exit(0);
  }
  const minutes = Number(given.minutes);
  if (!(minutes >= 0 && minutes <= 10_000))
    wrongUsage(`--minutes ${given.minutes} is no number of minutes from 0 to 10000`);
  if (!/^\d{1,9}$/.test(given.seed)) wrongUsage(`--seed ${given.seed} is not a whole number`);
  const atOnce = Number(given['at-once']);
  if (!(Number.isInteger(atOnce) && atOnce >= 1 && atOnce <= sections.length))
    wrongUsage(`--at-once ${given['at-once']} is no whole number from 1 to ${sections.length}`);
  const names = given.only?.flatMap((list) => list.split(','));
  const chosen = names === undefined ? sections : names.map(sectionOf);
  return { minutes, seed: Number(given.seed), chosen, atOnce, json: given.json };
}

function sectionOf(name: string): Section {
  const section = sections.find((one) => one.name === name);
  return (
    section ?? wrongUsage(`there is no section ${name}: choose from ${sections.map((one) => one.name).join(', ')}`)
  );
}

const { minutes, seed, chosen, atOnce, json } = argumentsOf();
const log = (line: string): void => (json ? console.error(line) : console.log(line));
const reports: Record<string, SectionReport> = {};
const skipped: Record<string, string> = {};
const beganMs = performance.now();
const shares = chosen.reduce((sum, { share }) => sum + share, 0);
// The longest first, so that those that go on at the same time end together.
const queue = atOnce === 1 ? [...chosen] : chosen.toSorted((a, b) => b.share - a.share);
await Promise.all(
  Array.from({ length: atOnce }, async () => {
    for (let section = queue.shift(); section !== undefined; section = queue.shift()) await runOne(section);
  }),
);

async function runOne(section: Section): Promise<void> {
  const { name, share } = section;
  const own = atOnce * minutes * (share / shares);
  // Else its own process says so.
  if (atOnce === 1) log(`${name} ... about ${rounded(own)} minutes`);
  const lack = await section.lacks();
  if (lack !== undefined) {
    skipped[name] = lack;
    log(`${name}: skipped, for ${lack}`);
    return;
  }
  try {
    const options = { seed, minutes: own, log: (line: string) => log(`  ${line}`) };
    // One of them sets this process's clock, and what one takes of memory is not to be the others'.
    reports[name] = atOnce === 1 ? await section.run(options) : await inProcess(name, own);
  } catch (error) {
    reports[name] = { figures: {}, violations: [`${name} ended with: ${(error as Error).message}`] };
    if (atOnce > 1) log(`${name}: ${(error as Error).message}`);
  }
  if (atOnce > 1) return;
  const { figures, violations } = reports[name];
  log(`${name}: ended`);
  for (const [figure, value] of Object.entries(figures)) log(`  ${figure.padEnd(28)} ${rounded(value)}`);
  for (const violation of violations) log(`  VIOLATION ${violation}`);
}

/** This program with the one section, in a process of its own. */
async function inProcess(name: string, own: number): Promise<SectionReport> {
  const options = ['--only', name, '--minutes', String(own), '--seed', String(seed), '--json'];
  const child = spawn(process.execPath, [...process.execArgv, import.meta.filename, ...options], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const printed = await text(child.stdout);
  const [code, signal] = (await ended) as [number | null, NodeJS.Signals | null];
  try {
    const { sections, violations } = JSON.parse(printed) as typeof total;
    return { figures: sections[name]!, violations: violations.map((each) => each.replace(`${name}: `, '')) };
  } catch {
    throw new Error(`its process ended with ${code ?? signal} and no report`);
  }
}

const violations = Object.entries(reports).flatMap(([name, report]) =>
  report.violations.map((text) => `${name}: ${text}`),
);
const sum = (figure: string): number =>
  Object.values(reports).reduce((total, { figures }) => total + (figures[figure] ?? 0), 0);
const total = {
  seed,
  minutes: rounded((performance.now() - beganMs) / 60_000),
  updates: sum('updates'),
  lost: sum('lost'),
  doubled: sum('doubled'),
  forks: sum('forks'),
  violations,
  skipped,
  sections: Object.fromEntries(Object.entries(reports).map(([name, { figures }]) => [name, figures])),
};
if (json) console.log(JSON.stringify(total));
else {
  console.log(
    `${total.updates} updates: ${total.lost} lost, ${total.doubled} counted twice; ${total.forks} forks; ` +
      `${violations.length} broken promises; ${Object.keys(skipped).length} sections skipped; ${total.minutes} minutes`,
  );
}
process.exit(violations.length === 0 ? 0 : 1);

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
