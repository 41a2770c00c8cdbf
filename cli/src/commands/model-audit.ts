import { auditVersion, loadStrategy } from '@commonweight/coordinator';
import { InvalidArgumentError, type Command } from 'commander';
import { DATA, withStore } from '../admin/open-store.ts';
import { gathered, name, reporting, whole } from '../output/arguments.ts';
import { CommandError, UnansweredError } from '../output/failure.ts';
import { standardOutput } from '../output/output.ts';

interface Options {
  data: string;
  postgres?: string;
  strategy?: string[];
  json?: boolean;
}

export function addModelAudit(model: Command): void {
  reporting(model.command('audit'))
    .description('make a version again from its retained updates, and compare it bit for bit')
    .argument('<model[@version]>', 'which version; without one, the newest', modelVersion)
    .option('--data <dir>', 'the folder of a coordinator that is stopped, or a backup of one that runs', DATA)
    .option('--postgres <url>', 'the database of several coordinators; --data has their key')
    .option('--strategy <file>', 'the strategy of your own that the task uses; repeatable', gathered)
    .action(audit);
}

export interface ModelVersion {
  model: string;
  /** 0 is the newest. */
  version: number;
}

/** `digits@3`, or `digits` for the newest. */
export function modelVersion(text: string): ModelVersion {
  const [model = '', version, ...more] = text.split('@');
  if (more.length > 0) throw new InvalidArgumentError('Give a model and a version, such as digits@3.');
  return { model: name(model), version: version === undefined ? 0 : whole(1)(version) };
}

async function audit(of: ModelVersion, options: Options): Promise<void> {
  for (const path of options.strategy ?? []) await loadStrategy(path);
  const result = await withStore(options, (store, publicKey) => auditVersion(store, publicKey, of));
  if (result.verdict === 'not-retained') throw new UnansweredError(result.why);
  const what = `version ${result.version} of ${of.model}`;
  if (result.verdict === 'different')
    throw new CommandError(`${what} is not what its updates make: ${result.difference}`);
  const { updates, totalWeight, parameters, strategy } = result;
  const text = `${what}: ${updates} updates that weigh ${totalWeight} make the same ${parameters} weights by ${strategy}, bit for bit`;
  standardOutput(options).say(text, { event: 'audited', model: of.model, ...result });
}
