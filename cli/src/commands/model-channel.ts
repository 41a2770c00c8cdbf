import { verifyEd25519 } from '@commonweight/client-sdk';
import { openManifest, type ChannelStatus, type RolloutStatus } from '@commonweight/proto';
import { InvalidArgumentError, type Command } from 'commander';
import { withAdmin } from '../admin/admin-client.ts';
import { duration, label, name, number, percentage, percentages, talking, whole } from '../output/arguments.ts';
import { UsageError } from '../output/failure.ts';
import { span, table, time } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';
import { modelVersion, type ModelVersion } from './model-audit.ts';

interface Options {
  coordinator: string;
  json?: boolean;
}

interface PromoteOptions extends Options {
  channel: string;
  percent?: number;
  cohort?: Label[];
  stages?: number[];
  every?: number;
  guard?: Record<string, number> | false;
  needReports?: boolean;
}

interface Label {
  key: string;
  value: string;
}

/** What a guard may be told, by the names that people type. */
const GUARDS = {
  clients: ['clientsMin', 'clients of each version that have to have reported (5)'],
  predictions: ['predictionsMin', 'predictions of each version (100)'],
  errors: ['errorPointsMax', 'points by which more predictions may fail (1)'],
  latency: ['latencyFactorMax', 'times that the p95 latency may be that of the version before (2)'],
  'latency-floor': ['latencyFloorMs', 'ms below which a p95 latency is never too long (50)'],
  reverts: ['revertPointsMax', 'points of clients that may take it back (5)'],
  accuracy: ['accuracyPointsMax', 'points by which accuracy by feedback may be lower (2)'],
} as const;

export function addModelChannel(model: Command): void {
  const guards = Object.entries(GUARDS).map(([key, [, what]]) => `  ${key.padEnd(14)} ${what}`);
  channelOf(talking(model.command('promote'), 'grpc'))
    .description('have a channel give a version to everybody, or to a part of its clients first')
    .argument('<model[@version]>', 'which version; without one, the newest', modelVersion)
    .option('--percent <p>', 'of the clients, or of those that a cohort names; again with more to raise it', percentage)
    .option('--cohort <key=value>', 'only clients with this label; repeatable', cohort)
    .option('--stages <list>', 'percentages that follow one another, such as 1,10,50,100', percentages)
    .option('--every <time>', 'how long each stage lasts, such as 30m or 12h', duration)
    .option('--need-reports', 'raise a stage only once enough clients report that it goes well')
    .option('--guard <what=number>', 'when reports of clients take the version back; repeatable, see below', guard)
    .option('--no-guard', 'whatever clients report')
    .addHelpText('after', `\nWhat --guard knows, and what holds where nothing is said:\n${guards.join('\n')}`)
    .action(promote);
  channelOf(talking(model.command('hold'), 'grpc'))
    .description('keep a channel as it is: no stage is raised, and nothing is promoted')
    .argument('<model>', 'a model', name)
    .option('--reason <text>', 'why', 'by hand')
    .action((of: string, options: Options & { channel: string; reason: string }) => hold(of, true, options));
  channelOf(talking(model.command('release'), 'grpc'))
    .description('let a channel that is held go on')
    .argument('<model>', 'a model', name)
    .action((of: string, options: Options & { channel: string }) => hold(of, false, { ...options, reason: '' }));
  talking(model.command('channels'), 'grpc')
    .description('the channels of a model, their rollouts, and what happened to them')
    .argument('<model>', 'a model', name)
    .action(showChannels);
  talking(model.command('rollback'), 'grpc')
    .description('go back: a channel to an older version, or without one the model itself, from which training goes on')
    .argument('<model>', 'a model', name)
    .option('--channel <name>', 'this channel alone: ends its rollout, or else gives what it had before', name)
    .option('--to <n>', 'the older version', whole(1))
    .action(rollBack);
}

const channelOf = (command: Command): Command =>
  command.requiredOption('--channel <name>', 'which channel, such as stable', name);

async function promote({ model, version }: ModelVersion, options: PromoteOptions): Promise<void> {
  const { channel, percent = 0, cohort: cohorts = [], stages = [], every, guard: guards } = options;
  if (stages.length > 0 && every === undefined)
    throw new UsageError('--stages needs --every: how long each lasts, such as --every 30m');
  if (stages.length === 0 && every !== undefined) throw new UsageError('--every goes with --stages');
  if (stages.length === 0 && options.needReports === true) throw new UsageError('--need-reports goes with --stages');
  const said = guards === false ? { off: true } : guards;
  const status = await withAdmin(options.coordinator, (admin) =>
    admin.promoteVersion({
      model,
      version: BigInt(version),
      channel,
      percent,
      cohorts,
      stages,
      everyMs: BigInt(every ?? 0),
      needsReports: options.needReports === true,
      ...(said === undefined ? {} : { guard: said }),
    }),
  );
  say(status, options, 'promoted');
}

async function hold(
  model: string,
  held: boolean,
  { channel, reason, ...options }: Options & { channel: string; reason: string },
): Promise<void> {
  const status = await withAdmin(options.coordinator, (admin) => admin.holdChannel({ model, channel, held, reason }));
  say(status, options, held ? 'held' : 'released');
}

async function rollBack(model: string, options: Options & { channel?: string; to?: number }): Promise<void> {
  const { channel, to } = options;
  if (channel !== undefined) {
    const version = BigInt(to ?? 0);
    const status = await withAdmin(options.coordinator, (admin) => admin.rollbackChannel({ model, channel, version }));
    return say(status, options, 'rolled-back');
  }
  if (to === undefined) throw new UsageError('say which version with --to, or which channel goes back with --channel');
  const { release, task } = await withAdmin(options.coordinator, (admin) => admin.rollbackModel(model, to));
  const { version } = openManifest(release, release.publicKey, verifyEd25519);
  const goesOn = task === '' ? '' : `; task ${task} goes on from it`;
  standardOutput(options).say(`version ${version} of ${model} has what version ${to} has${goesOn}`, {
    event: 'rolled-back',
    model,
    version,
    restored: to,
    ...(task === '' ? {} : { task }),
  });
}

async function showChannels(model: string, options: Options): Promise<void> {
  const [channels, models] = await withAdmin(options.coordinator, async (admin) => [
    await admin.listChannels(model),
    await admin.listModels(),
  ]);
  const newest = models.find((each) => each.model === model)?.newestVersion ?? 0n;
  const output = standardOutput(options);
  if (output.json) {
    output.say('', { event: 'channel', model, channel: 'latest', version: newest });
    for (const status of channels) output.say('', recordOf(status, 'channel'));
    return;
  }
  const rows = [
    ['latest', String(newest), '', 'always the newest version'],
    ...channels.map((status) => [status.channel, String(status.version), String(status.revision), stateOf(status)]),
  ];
  const changes = channels.flatMap(({ channel, changes: all }) =>
    all.slice(-8).map(({ atMs, what }) => `  ${time(atMs)}  ${channel}: ${what}`),
  );
  const history = changes.length === 0 ? [] : ['', ...changes.sort()];
  output.say([table(['channel', 'version', 'revision', ''], rows), ...history].join('\n'), {});
}

function say(status: ChannelStatus, options: Options, event: string): void {
  const { model, channel, version } = status;
  const text = `channel ${channel} of ${model}: version ${version}${stateOf(status, ', ')}`;
  standardOutput(options).say(text, recordOf(status, event));
}

/** What there is to say beside the version. */
function stateOf({ rollout, held, holdReason }: ChannelStatus, before = ''): string {
  const parts = [...(rollout === undefined ? [] : [rolloutOf(rollout)]), ...(held ? [`held (${holdReason})`] : [])];
  return parts.length === 0 ? '' : `${before}${parts.join('; ')}`;
}

function rolloutOf({
  version,
  percent,
  cohorts,
  stages,
  everyMs,
  nextStageMs,
  verdict,
  why,
  guard,
}: RolloutStatus): string {
  const of = cohorts.map(({ key, value }) => `${key}=${value}`).join(' or ');
  const next =
    stages.length === 0 ? '' : `, ${stages[0]} % at ${time(nextStageMs)}, then each ${span(Number(everyMs))}`;
  const reports = guard?.off === true ? 'reports change nothing' : `reports: ${verdict} (${why})`;
  return `version ${version} for ${percent} %${of === '' ? '' : ` of ${of}`}${next}; ${reports}`;
}

const recordOf = ({ $typeName: _, rollout, changes, ...rest }: ChannelStatus, event: string): object => ({
  event,
  ...rest,
  ...(rollout === undefined ? {} : { rollout: plain(rollout) }),
  changes: changes.map(plain),
});

function plain<T extends { $typeName: string }>({ $typeName: _, ...rest }: T): object {
  return rest;
}

/** Labels of one key may be several. */
const cohort = (text: string, before: readonly Label[] = []): Label[] => [
  ...before,
  ...Object.entries(label(text)).map(([key, value]) => ({ key, value })),
];

/** `errors=2`, gathered over repeated flags. */
function guard(text: string, before: Record<string, number> | true = {}): Record<string, number> {
  const [key = '', value = ''] = text.split('=', 2);
  if (!Object.hasOwn(GUARDS, key) || value === '')
    throw new InvalidArgumentError(`Give one of ${Object.keys(GUARDS).join(', ')} and a number, such as errors=2.`);
  const [field] = GUARDS[key as keyof typeof GUARDS];
  return { ...(before === true ? {} : before), [field]: number(0)(value) };
}
