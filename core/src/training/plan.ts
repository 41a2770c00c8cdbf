import { ConfigError } from '../errors.ts';
import { OnnxError } from '../onnx/errors.ts';
import { localMethods } from '../strategy/local-methods.ts';
import { distillationDefaults } from './distillation.ts';
import type { Distillation } from './distillation.ts';
import type { OpenSizes } from './forward-pass.ts';
import { lossOf } from './loss.ts';
import type { LossPlan } from './loss.ts';
import { decodedLoss, readLossGraph } from './loss-graph.ts';
import { lossNames } from './losses.ts';
import type { LossName, LossOptions } from './losses.ts';
import { metricsFor, type MetricName } from './metrics.ts';
import type { OptimizerPlan } from './optimizers.ts';
import { ROUNDING_BITS_MAX, ROUNDING_BITS_MIN } from './rounding.ts';
import type { QuantizationAware } from './rounding.ts';
import type { Schedule } from './schedule.ts';

/** How one client trains in one round. */
export interface TrainingPlan {
  loss: LossName;
  optimizer: OptimizerPlan;
  epochs: number;
  batchSize: number;
  /** FedProx's mu: pulls the weights towards the round's base. */
  proximalMu?: number;
  /** L2: pulls the weights towards zero. */
  weightDecay?: number;
  /** Bounds of each value of a gradient and of the norm of all gradients together. */
  clip?: { value?: number; norm?: number };
  schedule?: Schedule;
  lossOptions?: LossOptions;
  /** Where the loss is `graph`: the ONNX file in base64, up to LOSS_GRAPH_BYTES_MAX. */
  lossGraph?: string;
  /** What the strategy needs of the agent besides, see localMethods. */
  local?: { name: string } & Readonly<Record<string, number | string>>;
  /**
   * Parameters that each agent keeps for itself, by their names with * for any characters. Source: Arivazhagan et al. 2019, "Federated
   * Learning with Personalization Layers"; Li et al. 2021, "FedBN".
   */
  localLayers?: readonly string[];
  /** What agents measure of the version that they are about to train. */
  evaluation?: EvaluationOptions;
  /** Whether the model's Dropout layers drop; without it they pass everything on. */
  dropout?: boolean;
  /** Sizes that the model leaves open besides the batch, by their names in it: `{ "sequence": 128 }`. */
  sizes?: OpenSizes;
  /** Whether weights that are zero stay zero, so that a pruned model stays as sparse as it is. */
  keepZeros?: boolean;
  /** What is rounded while training, so that the quantized model loses less. */
  quantizationAware?: QuantizationAware;
  /** What the model learns from a teacher's answers besides the labels; which teacher is said by who gives the plan. */
  distillation?: Distillation;
}

export interface EvaluationOptions {
  metrics: readonly MetricName[];
  /** Share of an agent's examples that it never trains on and measures with. */
  holdOut: number;
  /** Of top-k; 5 where nobody says otherwise. */
  k?: number;
}

const HOLD_OUT = 0.1;

const limits = {
  epochs: 10_000,
  batchSize: 65_536,
  learningRate: 1e6,
  proximalMu: 1e6,
  classes: 1_000_000,
  temperature: 1000,
  patterns: 100,
  patternLength: 200,
  sizes: 16,
  size: 1_000_000,
};

/** Reads a plan from JSON; throws ConfigError naming the key at fault. */
export function parsePlan(value: unknown): TrainingPlan {
  const plan = fields(value, 'plan', [
    'loss',
    'optimizer',
    'epochs',
    'batchSize',
    'proximalMu',
    'weightDecay',
    'clip',
    'schedule',
    'lossOptions',
    'lossGraph',
    'local',
    'localLayers',
    'evaluation',
    'dropout',
    'sizes',
    'keepZeros',
    'distillation',
    'quantizationAware',
  ]);
  const { loss } = plan;
  if (!lossNames.some((name) => name === loss)) throw fault('loss', `must be one of ${lossNames.join(', ')}`);
  const lossGraph = parseLossGraph(loss as LossName, plan['lossGraph']);
  return {
    loss: loss as LossName,
    optimizer: parseOptimizer(plan['optimizer']),
    epochs: whole(plan, 'epochs', limits.epochs),
    batchSize: whole(plan, 'batchSize', limits.batchSize),
    ...given(
      'proximalMu',
      optional(plan, 'proximalMu', 'proximalMu', (mu) => mu >= 0 && mu <= limits.proximalMu),
    ),
    ...given(
      'weightDecay',
      optional(plan, 'weightDecay', 'weightDecay', (decay) => decay >= 0 && decay <= 1e6),
    ),
    ...given('clip', plan['clip'] === undefined ? undefined : parseClip(plan['clip'])),
    ...given('schedule', plan['schedule'] === undefined ? undefined : parseSchedule(plan['schedule'])),
    ...given(
      'lossOptions',
      plan['lossOptions'] === undefined ? undefined : parseLossOptions(loss as LossName, plan['lossOptions']),
    ),
    ...given('lossGraph', lossGraph),
    ...given('local', plan['local'] === undefined ? undefined : parseLocal(plan['local'])),
    ...given('localLayers', plan['localLayers'] === undefined ? undefined : parseLayers(plan['localLayers'])),
    ...given(
      'evaluation',
      plan['evaluation'] === undefined
        ? undefined
        : parseEvaluation({ loss: loss as LossName, ...given('lossGraph', lossGraph) }, plan['evaluation']),
    ),
    ...given('dropout', flag(plan, 'dropout')),
    ...given('sizes', plan['sizes'] === undefined ? undefined : parseSizes(plan['sizes'])),
    ...given('keepZeros', flag(plan, 'keepZeros')),
    ...given(
      'quantizationAware',
      plan['quantizationAware'] === undefined ? undefined : parseQuantizationAware(plan['quantizationAware']),
    ),
    ...given(
      'distillation',
      plan['distillation'] === undefined ? undefined : parseDistillation(loss as LossName, plan['distillation']),
    ),
  };
}

function flag(plan: Record<string, unknown>, key: string): boolean | undefined {
  const value = plan[key];
  if (value === undefined || typeof value === 'boolean') return value;
  throw fault(key, 'must be true or false');
}

const given = <K extends string, V>(key: K, value: V | undefined): { [k in K]?: V } =>
  value === undefined ? {} : ({ [key]: value } as { [k in K]?: V });

const optimizerKeys: Readonly<Record<OptimizerPlan['name'], readonly string[]>> = {
  sgd: ['momentum'],
  nesterov: ['momentum'],
  adam: ['beta1', 'beta2', 'epsilon'],
  adamw: ['beta1', 'beta2', 'epsilon', 'weightDecay'],
  adagrad: ['epsilon'],
  rmsprop: ['decay', 'epsilon'],
};
/** Names of the optimizers, as people type them. */
export const optimizerNames: readonly OptimizerPlan['name'][] = Object.keys(optimizerKeys) as OptimizerPlan['name'][];

function parseOptimizer(value: unknown): OptimizerPlan {
  const name = fields(value, 'optimizer')['name'];
  if (typeof name !== 'string' || !Object.hasOwn(optimizerKeys, name)) {
    throw fault('optimizer.name', `must be one of ${optimizerNames.join(', ')}`);
  }
  const keys = optimizerKeys[name as OptimizerPlan['name']];
  const optimizer = fields(value, 'optimizer', ['name', 'learningRate', ...keys]);
  const learningRate = optional(
    optimizer,
    'learningRate',
    'optimizer.learningRate',
    (rate) => rate > 0 && rate <= limits.learningRate,
  );
  if (learningRate === undefined) throw fault('optimizer.learningRate', 'is missing: give a number such as 0.1');
  const rest = keys.flatMap((key) => {
    const isInside = key === 'epsilon' ? (x: number) => x > 0 && x < 1 : (x: number) => x >= 0 && x < 1;
    const found = optional(optimizer, key, `optimizer.${key}`, isInside);
    return found === undefined ? [] : [[key, found]];
  });
  return { name, learningRate, ...Object.fromEntries(rest) } as OptimizerPlan;
}

function parseClip(value: unknown): NonNullable<TrainingPlan['clip']> {
  const clip = fields(value, 'clip', ['value', 'norm']);
  const isBound = (bound: number): boolean => bound > 0;
  return {
    ...given('value', optional(clip, 'value', 'clip.value', isBound)),
    ...given('norm', optional(clip, 'norm', 'clip.norm', isBound)),
  };
}

function parseLocal(value: unknown): NonNullable<TrainingPlan['local']> {
  const name = fields(value, 'local')['name'];
  if (typeof name !== 'string' || !Object.hasOwn(localMethods, name)) {
    throw fault('local.name', `must be one of ${Object.keys(localMethods).join(', ')}`);
  }
  const keys = localMethods[name]?.options ?? [];
  const local = fields(value, 'local', ['name', ...keys]);
  const rest = keys.flatMap((key) => {
    const found = optional(local, key, `local.${key}`, (x) => x >= 0);
    return found === undefined ? [] : [[key, found]];
  });
  return { name, ...Object.fromEntries(rest) } as NonNullable<TrainingPlan['local']>;
}

function parseLayers(value: unknown): readonly string[] {
  const isPattern = (pattern: unknown): boolean =>
    typeof pattern === 'string' && pattern !== '' && pattern.length <= limits.patternLength;
  if (Array.isArray(value) && value.length > 0 && value.length <= limits.patterns && value.every(isPattern)) {
    return value as string[];
  }
  throw fault('localLayers', 'must be a list of names of parameters, such as ["output.*"]');
}

function parseSizes(value: unknown): OpenSizes {
  const sizes = fields(value, 'sizes');
  const names = Object.keys(sizes);
  if (names.length > limits.sizes) throw fault('sizes', `has ${names.length} names, at most ${limits.sizes} are taken`);
  return Object.fromEntries(names.map((name) => [name, whole(sizes, name, limits.size, `sizes.${name}`)]));
}

function parseEvaluation(plan: LossPlan, value: unknown): EvaluationOptions {
  const evaluation = fields(value, 'evaluation', ['metrics', 'holdOut', 'k']);
  const { loss } = plan;
  const fitting = metricsFor(lossOf(plan).kind);
  const wanted = evaluation['metrics'];
  const isFitting = (name: unknown): boolean => fitting.some((one) => one === name);
  if (!Array.isArray(wanted) || wanted.length === 0 || !wanted.every(isFitting)) {
    throw fault('evaluation.metrics', `must be a list of what goes with ${loss}: ${fitting.join(', ')}`);
  }
  const isShare = (share: number): boolean => share > 0 && share <= 0.9;
  const isRank = (k: number): boolean => Number.isInteger(k) && k >= 1 && k <= limits.classes;
  return {
    metrics: [...new Set(wanted as MetricName[])],
    holdOut: optional(evaluation, 'holdOut', 'evaluation.holdOut', isShare) ?? HOLD_OUT,
    ...given('k', optional(evaluation, 'k', 'evaluation.k', isRank)),
  };
}

function parseDistillation(loss: LossName, value: unknown): Distillation {
  if (loss !== 'cross-entropy') throw fault('distillation', `is for cross-entropy, and the loss is ${loss}`);
  const distillation = fields(value, 'distillation', ['temperature', 'alpha']);
  const isTemperature = (x: number): boolean => x > 0 && x <= limits.temperature;
  const isShare = (x: number): boolean => x >= 0 && x <= 1;
  const { temperature, alpha } = distillationDefaults;
  return {
    temperature: optional(distillation, 'temperature', 'distillation.temperature', isTemperature) ?? temperature,
    alpha: optional(distillation, 'alpha', 'distillation.alpha', isShare) ?? alpha,
  };
}

function parseQuantizationAware(value: unknown): QuantizationAware {
  const rounded = fields(value, 'quantizationAware', ['weights', 'activations']);
  const isWidth = (bits: number): boolean =>
    Number.isInteger(bits) && bits >= ROUNDING_BITS_MIN && bits <= ROUNDING_BITS_MAX;
  const bits = (key: string): number | undefined => optional(rounded, key, `quantizationAware.${key}`, isWidth);
  const [weights, activations] = [bits('weights'), bits('activations')];
  if (weights === undefined && activations === undefined) {
    throw fault(
      'quantizationAware',
      `says nothing: give bits (${ROUNDING_BITS_MIN} to ${ROUNDING_BITS_MAX}) of weights, activations or both`,
    );
  }
  return { ...given('weights', weights), ...given('activations', activations) };
}

const scheduleKeys: Readonly<Record<Schedule['name'], readonly string[]>> = {
  constant: ['warmUpSteps'],
  step: ['warmUpSteps', 'everySteps', 'factor'],
  cosine: ['warmUpSteps', 'floor'],
  linear: ['warmUpSteps', 'floor'],
};

function parseSchedule(value: unknown): Schedule {
  const name = fields(value, 'schedule')['name'];
  if (typeof name !== 'string' || !Object.hasOwn(scheduleKeys, name)) {
    throw fault('schedule.name', `must be one of ${Object.keys(scheduleKeys).join(', ')}`);
  }
  const keys = scheduleKeys[name as Schedule['name']];
  const schedule = fields(value, 'schedule', ['name', ...keys]);
  const rest = keys.flatMap((key) => {
    const isSteps = key === 'warmUpSteps' || key === 'everySteps';
    const isInside = (x: number): boolean =>
      isSteps ? Number.isSafeInteger(x) && x >= (key === 'everySteps' ? 1 : 0) : x >= 0 && x <= 1;
    const found = optional(schedule, key, `schedule.${key}`, isInside);
    return found === undefined ? [] : [[key, found]];
  });
  return { name, ...Object.fromEntries(rest) } as Schedule;
}

const lossKeys: Partial<Record<LossName, readonly string[]>> = {
  'cross-entropy': ['labelSmoothing', 'classWeights', 'ignoreIndex'],
  huber: ['delta'],
  triplet: ['margin'],
};

/** A loss of somebody's own, which must be there where it is asked for, and nowhere else. */
function parseLossGraph(loss: LossName, value: unknown): string | undefined {
  if (loss !== 'graph') {
    if (value === undefined) return undefined;
    throw fault('lossGraph', `goes with the loss graph, and the loss is ${loss}`);
  }
  if (typeof value !== 'string')
    throw fault('lossGraph', 'is missing: give an ONNX file in base64 (task create --loss-graph FILE)');
  try {
    readLossGraph(decodedLoss(value));
  } catch (cause) {
    if (cause instanceof OnnxError) throw new ConfigError(`lossGraph: ${cause.message}`, 'lossGraph', { cause });
    throw cause;
  }
  return value;
}

function parseLossOptions(loss: LossName, value: unknown): LossOptions {
  const options = fields(value, 'lossOptions', lossKeys[loss] ?? []);
  const { classWeights } = options;
  const isWeight = (weight: unknown): boolean => typeof weight === 'number' && Number.isFinite(weight) && weight >= 0;
  if (
    classWeights !== undefined &&
    !(Array.isArray(classWeights) && classWeights.length <= limits.classes && classWeights.every(isWeight))
  ) {
    throw fault('lossOptions.classWeights', 'must be a list of numbers that are not negative');
  }
  return {
    ...given(
      'labelSmoothing',
      optional(options, 'labelSmoothing', 'lossOptions.labelSmoothing', (x) => x >= 0 && x < 1),
    ),
    ...given('classWeights', classWeights as number[] | undefined),
    ...given('ignoreIndex', optional(options, 'ignoreIndex', 'lossOptions.ignoreIndex', Number.isSafeInteger)),
    ...given(
      'delta',
      optional(options, 'delta', 'lossOptions.delta', (x) => x > 0),
    ),
    ...given(
      'margin',
      optional(options, 'margin', 'lossOptions.margin', (x) => x > 0),
    ),
  };
}

function fields(value: unknown, key: string, known?: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fault(key, 'must be an object');
  const unknown = known === undefined ? undefined : Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw fault(
      key === 'plan' ? unknown : `${key}.${unknown}`,
      known!.length === 0 ? 'is not known here' : `is not known; use ${known!.join(', ')}`,
    );
  return value as Record<string, unknown>;
}

function whole(plan: Record<string, unknown>, key: string, max: number, path: string = key): number {
  const value = plan[key];
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw fault(path, `must be a whole number from 1 to ${max}`);
}

function optional(
  from: Record<string, unknown>,
  key: string,
  path: string,
  isInside: (value: number) => boolean,
): number | undefined {
  const value = from[key];
  if (value === undefined) return undefined;
  if (typeof value === 'number' && Number.isFinite(value) && isInside(value)) return value;
  throw fault(path, `is out of range: ${JSON.stringify(value)}`);
}

function fault(key: string, problem: string): ConfigError {
  return new ConfigError(`${key} ${problem}`, key);
}
