import {
  buildEvaluationGraph,
  ConfigError,
  contractOf,
  encodings,
  EvaluationReports,
  invariant,
  parseStatisticsPlan,
  reportGrid,
  StatisticsReports,
  type Asynchronous,
  type GridSpec,
  type Measured,
  type ModelProto,
  type StatisticsPlan,
  type StatisticsResult,
  type Strategy,
  type UpdateFormat,
} from '@commonweight/core';
import type { SignedManifest } from '@commonweight/proto';
import { anyPolicyOf, kindOf, type AnyConfig, type WorkName } from '../round/config.ts';
import { inviteMaxOf } from '../round/cohort.ts';
import type { EvaluationAsked } from '../round/measure.ts';
import { gateEvaluationOf, gridOf, strategyOf, type TaskConfig } from '../round/policy.ts';
import type { RoundPolicy, RoundState } from '../round/round.ts';
import type { Wanting } from './fleet.ts';
import { ReportSum } from './report-sum.ts';
import { RoundSum, type FoldedSum } from './round-sum.ts';

/** What agents measure, and how their reports are summed and read. */
export type Reporting =
  | { work: 'evaluate'; plan: EvaluationAsked; reports: EvaluationReports; sum: ReportSum; grid: GridSpec }
  | { work: 'statistics'; plan: StatisticsPlan; reports: StatisticsReports; sum: ReportSum; grid: GridSpec };

/** How agents train, and how their updates are summed. */
export interface Training {
  config: TaskConfig;
  strategy: Strategy;
  sum: RoundSum;
  grid: GridSpec;
  /** What they learn from besides their labels. */
  teacher: SignedManifest | undefined;
}

/** What a round's work is made of. */
interface WorkParts {
  graph: ModelProto;
  parameters: number;
  spoolDir: string;
  teacher: SignedManifest | undefined;
}

/** What an update of a round must be. */
export interface Expected {
  format: UpdateFormat;
  /** Of the payload, before it is compressed. */
  bytesMin: number;
  bytesMax: number;
  weightMax: number;
}

/** A report is whole numbers in float32, and each counts once. */
const REPORT = { format: { encoding: 'float32', topK: 1 }, weightMax: 1 } as const;

/** What the agents of a task do, round for round, and what is made of what they send: for the coordinator that leads and those that follow. */
export class RoundWork {
  readonly config: AnyConfig;
  readonly policy: RoundPolicy;
  /** Undefined where agents only measure. */
  readonly training: Training | undefined;
  /** Of rounds that measure: all of them, or those of candidates. */
  readonly reporting: Reporting | undefined;
  readonly #task: string;

  /** `graph` is the model's; throws ConfigError where agents could not measure it so. */
  constructor(task: string, config: AnyConfig, { graph, parameters, spoolDir, teacher }: WorkParts) {
    this.#task = task;
    this.config = config;
    this.policy = anyPolicyOf(config);
    if ('kind' in config) {
      this.reporting =
        config.kind === 'evaluate'
          ? evaluating(graph, config.evaluation, 1, inviteMaxOf(config.cohort))
          : counting(graph, config);
      return;
    }
    const strategy = strategyOf(config);
    const grid = gridOf(config);
    this.training = {
      config,
      strategy,
      grid,
      teacher,
      sum: new RoundSum(config, { task, strategy, grid, parameters, spoolDir }),
    };
    const asked = gateEvaluationOf(config);
    // The base and the candidate.
    if (asked !== undefined) this.reporting = evaluating(graph, asked, 2, this.policy.evaluation!.cohortMax);
  }

  get asynchronous(): Asynchronous | undefined {
    return this.training?.strategy.asynchronous;
  }

  /** What is done in the round that is open, or is opened next. */
  workOf(state: RoundState): WorkName {
    return state.candidate === undefined ? kindOf(this.config) : 'evaluate';
  }

  sumOf(state: RoundState): FoldedSum {
    const sum = this.#isTraining(state) ? this.training?.sum : this.reporting?.sum;
    invariant(sum !== undefined, 'a round has a sum');
    return sum;
  }

  /** Of the updates of a round whose sum is enough, so that others may hand in parts of it. */
  partsGridOf(state: RoundState): GridSpec | undefined {
    if (state.phase !== 'Collecting' || this.asynchronous !== undefined || !this.#isTraining(state)) return undefined;
    return this.training?.sum.seesEach === false ? this.training.grid : undefined;
  }

  expectedOf(state: RoundState): Expected {
    const { length } = this.sumOf(state);
    const { format, weightMax } = this.#isTraining(state) ? this.#update : REPORT;
    const { bytesMin, bytesMax } = encodings[format.encoding];
    return { format, bytesMin: bytesMin(length), bytesMax: bytesMax(length, format.topK), weightMax };
  }

  get #update(): Pick<Expected, 'format' | 'weightMax'> {
    const { config, sum } = this.training!;
    return { format: sum.format, weightMax: config.weightMax };
  }

  #isTraining(state: RoundState): boolean {
    return this.workOf(state) === 'train';
  }

  /** Whom a round of the task's own work may invite. */
  get wanting(): Wanting {
    const { evaluators, where = {} } = this.config;
    const work = kindOf(this.config);
    return { task: this.#task, where, work, ...(work === 'evaluate' ? { evaluators } : {}) };
  }

  /** Who may evaluate a candidate, or has what the others are judged by; undefined where nobody is asked for that. */
  get judging(): Wanting | undefined {
    const { evaluators, where = {} } = this.config;
    if (this.policy.evaluation !== undefined) return { task: this.#task, where, work: 'evaluate', evaluators };
    return this.policy.needsRoot === true
      ? { task: this.#task, where, work: 'train', evaluators: evaluators ?? [] }
      : undefined;
  }

  /** Empties all sums. */
  reset(): void {
    this.training?.sum.reset();
    this.reporting?.sum.reset();
  }

  async close(): Promise<void> {
    await this.training?.sum.close();
    await this.reporting?.sum.close();
  }
}

function evaluating(graph: ModelProto, plan: EvaluationAsked, subjects: number, cohortMax: number): Reporting {
  const reports = new EvaluationReports(buildEvaluationGraph(graph, plan, 1).totals, subjects);
  const grid = reportGrid(cohortMax);
  return { work: 'evaluate', plan, reports, grid, sum: new ReportSum(reports.layout.length, grid) };
}

function counting(graph: ModelProto, { cohort, statistics }: Extract<AnyConfig, { kind: 'statistics' }>): Reporting {
  const { inputs, outputs } = contractOf(graph);
  const [input] = inputs;
  const [, ...dims] = input?.dims ?? [];
  if (input === undefined || dims.some((dim) => dim < 1))
    throw new ConfigError('statistics are of inputs of one size, and the model takes others', 'model');
  const width = outputs[0]?.dims.at(-1) ?? 0;
  const plan = parseStatisticsPlan(statistics, Math.max(0, width));
  const reports = new StatisticsReports(
    plan,
    dims.reduce((product, dim) => product * dim, 1),
  );
  const grid = reportGrid(inviteMaxOf(cohort));
  return { work: 'statistics', plan, reports, grid, sum: new ReportSum(reports.layout.length, grid) };
}

/** What a round of reports came to. */
export const measuredBy = (reporting: Reporting): Measured[] => {
  invariant(reporting.work === 'evaluate', 'an evaluation is of evaluations');
  return reporting.reports.result(reporting.sum.totals());
};

export const countedBy = (reporting: Reporting): StatisticsResult => {
  invariant(reporting.work === 'statistics', 'statistics are of statistics');
  return reporting.reports.result(reporting.sum.totals());
};
