// `npm run chaos`: harm to real processes, files, links and whole simulated clusters, and the figures of what is left.
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

const USAGE = `usage: npm run chaos -- [--minutes M] [--seed S] [--only NAME[,NAME]] [--json]
  --minutes M  about how long all of it may take together (10); each harm is done at least once
  --seed S     which harm is done (1); when what falls, the machine decides
  --only NAME  these sections: ${sections.map(({ name }) => name).join(', ')}
  --json       one JSON object at the end, and the lines of progress on standard error`;

interface Arguments {
  minutes: number;
  seed: number;
  chosen: readonly Section[];
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
  const names = given.only?.flatMap((list) => list.split(','));
  const chosen = names === undefined ? sections : names.map(sectionOf);
  return { minutes, seed: Number(given.seed), chosen, json: given.json };
}

function sectionOf(name: string): Section {
  const section = sections.find((one) => one.name === name);
  return (
    section ?? wrongUsage(`there is no section ${name}: choose from ${sections.map((one) => one.name).join(', ')}`)
  );
}

const { minutes, seed, chosen, json } = argumentsOf();
const log = (line: string): void => (json ? console.error(line) : console.log(line));
const reports: Record<string, SectionReport> = {};
const skipped: Record<string, string> = {};
const beganMs = performance.now();
for (const section of chosen) {
  const { name } = section;
  const lacks = await section.lacks();
  if (lacks !== undefined) {
    skipped[name] = lacks;
    log(`${name}: skipped, for ${lacks}`);
    continue;
  }
  log(`${name} ...`);
  try {
    reports[name] = await section.run({ seed, minutes: minutes / chosen.length, log: (line) => log(`  ${line}`) });
  } catch (error) {
    reports[name] = { figures: {}, violations: [`${name} ended with: ${(error as Error).message}`] };
  }
  const { figures, violations } = reports[name];
  for (const [figure, value] of Object.entries(figures)) log(`  ${figure.padEnd(28)} ${rounded(value)}`);
  for (const violation of violations) log(`  VIOLATION ${violation}`);
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
