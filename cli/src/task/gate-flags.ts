import { UsageError } from '../output/failure.ts';
import { given, type Config } from './config-parts.ts';
import type { TaskFlags } from './task-flags.ts';

/** What a version must pass; undefined where nobody asked for anything. */
export function gatesOf(file: Config, flags: TaskFlags): Config | undefined {
  const norm = {
    ...((file['norm'] ?? {}) as Config),
    ...given({ factor: flags.gateNorm, rounds: flags.gateNormRounds }),
  };
  const metric: Config = {
    ...((file['metric'] ?? {}) as Config),
    ...given({ name: flags.gateMetric, margin: flags.gateMargin, evaluateMs: flags.gateMs }),
  };
  const cohort = { ...((metric['cohort'] ?? {}) as Config), ...given({ min: flags.gateMin, max: flags.gateMax }) };
  const hasNorm = Object.keys(norm).length > 0;
  const hasCohort = Object.keys(cohort).length > 0;
  if (hasNorm && norm['factor'] === undefined) throw new UsageError('--gate-norm-rounds goes with --gate-norm');
  if ((hasCohort || Object.keys(metric).length > 0) && metric['name'] === undefined)
    throw new UsageError('--gate-margin, --gate-min, --gate-max and --gate-ms go with --gate-metric');
  if (!hasNorm && metric['name'] === undefined) return undefined;
  return {
    ...(hasNorm ? { norm } : {}),
    ...(metric['name'] === undefined ? {} : { metric: { ...metric, ...(hasCohort ? { cohort } : {}) } }),
  };
}
