import { ConfigError } from '../errors.ts';
import type { TrainingPlan } from '../training/plan.ts';
import { DELTA_ONLY } from '../weights/packed.ts';
import { dittoLocal } from './ditto.ts';
import { fedDynLocal } from './fed-dyn.ts';
import { fedNovaLocal } from './fed-nova.ts';
import type { LocalMethod, LocalOptions } from './local-method.ts';
import { qFedAvgLocal } from './q-fed-avg.ts';
import { scaffoldLocal } from './scaffold.ts';

/** What agents can do besides their training, by the name that a plan gives. */
export const localMethods: Readonly<
  Record<string, { make: (options: LocalOptions) => LocalMethod; options: readonly string[] }>
> = {
  fedNova: { make: fedNovaLocal, options: [] },
  scaffold: { make: scaffoldLocal, options: [] },
  fedDyn: { make: fedDynLocal, options: ['alpha'] },
  qFedAvg: { make: qFedAvgLocal, options: ['q', 'lipschitz'] },
  ditto: { make: dittoLocal, options: ['lambda'] },
};

const plain: LocalMethod = { shape: DELTA_ONLY, report: ({ delta }) => ({ vectors: [delta], numbers: [] }) };

/** What a plan asks of the agent. Throws ConfigError where that is not known. */
export function localMethodOf({ local }: Pick<TrainingPlan, 'local'>): LocalMethod {
  if (local === undefined) return plain;
  const { name, ...options } = local;
  const method = Object.hasOwn(localMethods, name) ? localMethods[name] : undefined;
  if (method === undefined) {
    throw new ConfigError(`local.name must be one of ${Object.keys(localMethods).join(', ')}`, 'local.name');
  }
  return method.make(options as LocalOptions);
}
