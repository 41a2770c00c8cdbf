import { ConfigError, type Measured, type MetricName } from '@commonweight/core';
import { record, requireKeys, whole } from './fields.ts';
import type { EvaluationPolicy } from './round.ts';

/** What a version must pass before it is one, besides being made of numbers. */
export interface GatesConfig {
  /** The step must not be longer than `factor` times the median of those of the last `rounds` versions. */
  norm?: { factor: number; rounds: number };
  metric?: MetricGate;
}

/** Agents evaluate what a round made beside the version that it was made from, and it must not be worse by more than the margin. */
export interface MetricGate {
  name: MetricName;
  /** In the metric's own unit: 0.02 of an accuracy are two points. */
  margin: number;
  /** Reports of an evaluation. */
  cohort: { min: number; max: number };
  evaluateMs: number;
}

const NORM_ROUNDS = 10;
/** Lengths of steps that are remembered. */
export const NORMS_MAX = 100;
/** With fewer steps before it none is found too long. */
const NORMS_MIN = 3;
const EVALUATE_MS = 60_000;

/** Checks the gates of a task. Throws ConfigError naming the key. */
export function parseGates(value: unknown, hasEvaluators: boolean): GatesConfig {
  const gates = record(value, 'gates');
  requireKeys(gates, ['norm', 'metric'], 'gates');
  return {
    ...(gates['norm'] === undefined ? {} : { norm: parseNorm(record(gates['norm'], 'gates.norm')) }),
    ...(gates['metric'] === undefined
      ? {}
      : { metric: parseMetric(record(gates['metric'], 'gates.metric'), hasEvaluators) }),
  };
}

function parseNorm(norm: Record<string, unknown>): NonNullable<GatesConfig['norm']> {
  requireKeys(norm, ['factor', 'rounds'], 'gates.norm');
  const { factor, rounds = NORM_ROUNDS } = norm;
  if (typeof factor !== 'number' || !(factor >= 1 && factor <= 1e6))
    throw new ConfigError('gates.norm.factor must be a number from 1 on, such as 5', 'gates.norm.factor');
  return { factor, rounds: whole({ rounds }, 'rounds', 'gates.norm.rounds', NORMS_MIN, NORMS_MAX) };
}

function parseMetric(metric: Record<string, unknown>, hasEvaluators: boolean): MetricGate {
  requireKeys(metric, ['name', 'margin', 'cohort', 'evaluateMs'], 'gates.metric');
  const { name, margin = 0, evaluateMs = EVALUATE_MS } = metric;
  if (typeof name !== 'string')
    throw new ConfigError('gates.metric.name must be a metric, such as "accuracy"', 'gates.metric.name');
  if (typeof margin !== 'number' || !(margin >= 0 && margin <= 1e9))
    throw new ConfigError('gates.metric.margin must be a number that is not negative', 'gates.metric.margin');
  const few = hasEvaluators ? 1 : 2;
  const cohort = record(metric['cohort'] ?? {}, 'gates.metric.cohort');
  requireKeys(cohort, ['min', 'max'], 'gates.metric.cohort');
  const min = whole({ min: cohort['min'] ?? few }, 'min', 'gates.metric.cohort.min', 1, 10_000);
  const max = whole({ max: cohort['max'] ?? Math.max(min, 100) }, 'max', 'gates.metric.cohort.max', min, 10_000);
  return {
    // Whether the loss has it is checked with the plan that agents evaluate by.
    name: name as MetricName,
    margin,
    cohort: { min, max },
    evaluateMs: whole({ evaluateMs }, 'evaluateMs', 'gates.metric.evaluateMs', 1, 7 * 86_400_000),
  };
}

export const evaluationPolicyOf = ({ cohort, evaluateMs }: MetricGate): EvaluationPolicy => ({
  cohortMin: cohort.min,
  cohortMax: cohort.max,
  collectMs: evaluateMs,
});

/** Metrics that are better the smaller they are. */
const SMALLER_IS_BETTER: readonly MetricName[] = ['mae', 'perplexity'];

/** What keeps a step from being a version, in words. `norms` are those of the versions before it, the newest last. */
export function wrongStep(
  weights: Float32Array,
  stepNorm: number,
  { norms, gates }: { norms: readonly number[]; gates: GatesConfig },
): string | undefined {
  const at = weights.findIndex((weight) => !Number.isFinite(weight));
  if (at >= 0) return `weight ${at} of ${weights.length} would be ${weights[at]}`;
  const { norm } = gates;
  if (norm === undefined) return undefined;
  const last = norms.slice(-norm.rounds);
  if (last.length < NORMS_MIN) return undefined;
  const usual = medianOf(last);
  if (stepNorm <= norm.factor * usual) return undefined;
  return `the step is ${shown(stepNorm)} long, more than ${norm.factor} times the ${shown(usual)} that the last ${last.length} versions took`;
}

/** What keeps a candidate from being a version, in words. */
export function worseThan(base: Measured, candidate: Measured, { name, margin }: MetricGate): string | undefined {
  const [was, is] = [base.metrics[name], candidate.metrics[name]];
  if (was === undefined || is === undefined) return `${name} could not be measured on ${candidate.examples} examples`;
  const loss = SMALLER_IS_BETTER.includes(name) ? is - was : was - is;
  if (loss <= margin) return undefined;
  return `${name} ${shown(is)} is worse than ${shown(was)} by more than ${margin}, on ${candidate.examples} examples`;
}

/** Length of the step from some weights to others. */
export function stepNormOf(base: Float32Array, next: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < next.length; i++) sum += ((next[i] ?? 0) - (base[i] ?? 0)) ** 2;
  return Math.sqrt(sum);
}

function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

const shown = (value: number): number => Number(value.toPrecision(4));
