import { fromBinary } from '@bufbuild/protobuf';
import { openModelLink, verifyEd25519 } from '@commonweight/client-sdk';
import { openResult, StatisticsSchema, type Result, type Statistics } from '@commonweight/proto';
import { withAdmin } from '../admin/admin-client.ts';
import { CommandError } from '../output/failure.ts';
import { table } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';

/** Features that a terminal shows; --json has all. */
const SHOWN_MAX = 40;

/** Shows what a round of a task that measures came to: all of them in short, and the statistics of one. */
export async function showResults(
  task: string,
  options: { coordinator: string; json?: boolean; round?: number },
): Promise<void> {
  const signed = await withAdmin(options.coordinator, async (admin) => {
    const results = await admin.listResults({ task });
    // Else nobody would hear that there is no such task.
    if (results.length === 0) await admin.getTask(task);
    return results;
  });
  const results = signed.map((one) => openResult(one, one.publicKey, verifyEd25519));
  const output = standardOutput(options);
  if (results.length === 0)
    return output.say(`no results of ${task} yet: \`commonweight task show ${task}\` says how it stands`, {
      event: 'none',
      task,
    });
  const chosen =
    options.round === undefined ? results.at(-1) : results.find(({ round }) => Number(round) === options.round);
  if (chosen === undefined)
    throw new CommandError(
      `task ${task} has no result of round ${options.round}; see \`commonweight task results ${task}\``,
    );
  const statistics = chosen.kind === 'statistics' ? await statisticsOf(chosen, options.coordinator) : undefined;
  if (output.json) {
    for (const result of options.round === undefined ? results : [chosen])
      output.say('', recordOf(result, result === chosen ? statistics : undefined));
    return;
  }
  const lines = statistics === undefined ? [] : ['', ...statisticsLines(statistics, chosen)];
  output.say([evaluationTable(options.round === undefined ? results : [chosen]), ...lines].join('\n'), {});
}

function evaluationTable(results: readonly Result[]): string {
  const names = [...new Set(results.flatMap(({ evaluation }) => Object.keys(evaluation?.metrics ?? {})))].sort();
  const rows = results.map(({ round, version, evaluation }) => [
    String(round),
    String(version),
    String(evaluation?.reports ?? 0),
    String(evaluation?.examples ?? 0),
    ...names.map((name) => shown(evaluation?.metrics[name])),
  ]);
  return table(['round', 'version', 'agents', 'examples', ...names], rows);
}

/** The blob behind a result, which is as long as a model has inputs. */
async function statisticsOf({ statisticsDigest, statisticsSize }: Result, coordinator: string): Promise<Statistics> {
  const link = openModelLink(coordinator);
  try {
    return fromBinary(StatisticsSchema, await link.download(statisticsDigest, Number(statisticsSize)));
  } finally {
    await link.close();
  }
}

function statisticsLines({ features, labels, shares }: Statistics, { round }: Result): string[] {
  const quantiles = shares.map((share) => `${share * 100} %`);
  const rows = features
    .slice(0, SHOWN_MAX)
    .map((feature, i) => [
      features.length === 1 ? 'all' : String(i),
      String(feature.count),
      String(feature.missing),
      ...[feature.mean, Math.sqrt(feature.variance), feature.min, feature.max, ...feature.quantiles].map(shown),
    ]);
  const rest = features.length - rows.length;
  const counted = labels.map((count, label) => `${label === labels.length - 1 ? 'other' : label}: ${count}`);
  return [
    `round ${round}, inputs:`,
    table(['input', 'count', 'missing', 'mean', 'deviation', 'from', 'below', ...quantiles], rows),
    ...(rest > 0 ? [`${rest} more inputs: --json has all`] : []),
    `labels: ${counted.filter((text, i) => labels[i] !== 0n || i < labels.length - 1).join(', ')}`,
  ];
}

const shown = (value: number | undefined): string =>
  value === undefined || Number.isNaN(value) ? '-' : String(Number(value.toPrecision(4)));

/** A result for machines: statistics as plain numbers, deviations beside variances. */
function recordOf({ $typeName: _, $unknown: __, ...result }: Result, statistics: Statistics | undefined): object {
  const { evaluation } = result;
  return {
    ...result,
    manifestDigest: Buffer.from(result.manifestDigest).toString('hex'),
    statisticsDigest: Buffer.from(result.statisticsDigest).toString('hex'),
    evaluation: { reports: evaluation?.reports, examples: evaluation?.examples, metrics: evaluation?.metrics },
    ...(statistics === undefined ? {} : { statistics: plainStatistics(statistics) }),
  };
}

const plainStatistics = ({ examples, features, labels, shares }: Statistics): object => ({
  examples,
  labels,
  shares,
  features: features.map(({ $typeName: _, $unknown: __, bins, ...feature }) => ({
    ...feature,
    deviation: Math.sqrt(feature.variance),
    bins: bins.map(({ from, to, count }) => ({ from, to, count })),
  })),
});
