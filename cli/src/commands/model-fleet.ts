import type { FleetShadow, FleetStatus, FleetVersion } from '@commonweight/proto';
import type { Command } from 'commander';
import { withAdmin } from '../admin/admin-client.ts';
import { name, talking } from '../output/arguments.ts';
import { milliseconds, percent, table, time } from '../output/format.ts';
import { standardOutput } from '../output/output.ts';

interface Options {
  coordinator: string;
  json?: boolean;
}

export function addModelFleet(model: Command): void {
  talking(model.command('fleet'), 'grpc')
    .description('which versions apps run, and how these do there: failures, latency, versions taken back, accuracy')
    .argument('<model>', 'a model', name)
    .action(showFleet);
}

async function showFleet(model: string, options: Options): Promise<void> {
  const [fleet] = await withAdmin(options.coordinator, (admin) => admin.getFleets(model));
  const output = standardOutput(options);
  const { clients = 0, versions = [], shadows = [], sinceMs = 0n } = fleet ?? ({} as Partial<FleetStatus>);
  if (output.json) {
    for (const { $typeName: _, ...rest } of versions) output.say('', { event: 'fleet', model, ...rest });
    for (const { $typeName: _, ...rest } of shadows) output.say('', { event: 'shadow', model, ...rest });
    return;
  }
  if (versions.length === 0) return output.say(`${model}: no app has reported`, {});
  const headings = ['version', 'apps', 'predictions', 'failed', 'p50', 'p95', 'kept', 'taken back', 'right', 'runs as'];
  const lines = [`${model}: ${clients} apps; counts since ${time(sinceMs)}`, table(headings, versions.map(rowOf))];
  const faults = versions.flatMap(({ version, faults: all }) =>
    Object.entries(all).map(([fault, count]) => `  version ${version}: ${fault} ${count}`),
  );
  if (faults.length > 0) lines.push('', 'taken back or refused because of', ...faults);
  if (shadows.length > 0) {
    const beside = ['shadow', 'beside', 'predictions', 'failed', 'agreement', 'largest difference', 'p50', 'p95'];
    lines.push('', table(beside, shadows.map(shadowRow)));
  }
  output.say(lines.join('\n'), {});
}

function rowOf(of: FleetVersion): string[] {
  const { version, clients, predictions, failing, latencyP50Ms, latencyP95Ms, variants, labelled, accuracy } = of;
  return [
    String(version),
    String(clients),
    String(predictions),
    predictions === 0n ? '' : percent(failing),
    milliseconds(latencyP50Ms),
    milliseconds(latencyP95Ms),
    String(of.committed),
    String(of.reverted + of.refused),
    labelled === 0n ? '' : `${percent(accuracy)} of ${labelled}`,
    Object.entries(variants)
      .map(([variant, count]) => `${variant} ${count}`)
      .join(', '),
  ];
}

const shadowRow = (of: FleetShadow): string[] => [
  String(of.version),
  String(of.champion),
  String(of.predictions),
  String(of.errors),
  percent(of.agreement),
  percent(of.differenceMax),
  milliseconds(of.latencyP50Ms),
  milliseconds(of.latencyP95Ms),
];
