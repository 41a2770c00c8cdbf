import { parseConfig, parseTaskConfig } from '@commonweight/coordinator';
import { expect, test } from 'vitest';
import { UsageError } from '../output/failure.ts';
import { taskConfig, type TaskFlags } from './task-flags.ts';

test('a model is enough: the rest has defaults that the coordinator takes', () => {
  expect(parseTaskConfig(JSON.stringify(taskConfig({ model: 'digits' })))).toMatchObject({
    model: 'digits',
    strategy: { name: 'fedAvg' },
    plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 },
    cohort: { min: 2, max: 100 },
  });
});

test('flags win over the file, and what neither says stays out', () => {
  const file = { model: 'digits', rounds: 3, plan: { epochs: 4, optimizer: { name: 'adam', learningRate: 0.01 } } };
  expect(taskConfig({ rounds: 5, batch: 32, cohortMax: 1 }, file)).toEqual({
    model: 'digits',
    rounds: 5,
    strategy: { name: 'fedAvg' },
    plan: { loss: 'cross-entropy', epochs: 4, batchSize: 32, optimizer: { name: 'adam', learningRate: 0.01 } },
    cohort: { min: 1, max: 1 },
  });
});

test('the windows of a round: counts, time, and agents beyond what is needed', () => {
  const config = taskConfig({ model: 'm', cohortMin: 5, cohortMax: 10, overSelection: 1.3, collectMinMs: 2000 });
  const { cohort, collectMinMs } = parseTaskConfig(JSON.stringify(config));
  expect({ cohort, collectMinMs }).toEqual({ cohort: { min: 5, max: 10, overSelection: 1.3 }, collectMinMs: 2000 });
});

test('which agents may be invited: labels, what they have and what holds of them', () => {
  const where = ['site=north', 'site=south', 'memory=2048', 'engine=cuda', 'charging', 'idle'];
  const config = taskConfig({ model: 'm', where }, { where: { coresMin: 2 } });
  expect(parseTaskConfig(JSON.stringify(config)).where).toEqual({
    labels: { site: ['north', 'south'] },
    engine: ['cuda'],
    memoryMiBMin: 2048,
    coresMin: 2,
    conditions: ['charging', 'idle'],
  });
  expect(parseTaskConfig(JSON.stringify(taskConfig({ model: 'm' }))).where).toBeUndefined();
  for (const wrong of ['memory=much', 'site=', '=x']) {
    expect(() => taskConfig({ model: 'm', where: [wrong] })).toThrow(UsageError);
  }
});

test('forms of versions are asked for by name, and the margin is theirs', () => {
  const config = taskConfig({ model: 'm', variants: ['int8-dynamic', 'int8-blocks'], variantsDropMax: 1 });
  expect(parseTaskConfig(JSON.stringify(config)).variants).toEqual({
    forms: ['int8-dynamic', 'int8-blocks'],
    accuracyDropPointsMax: 1,
  });
  const fixed = taskConfig({ model: 'm', variants: ['int8-static'], calibrationMethod: 'entropy' });
  expect(parseTaskConfig(JSON.stringify(fixed)).variants).toMatchObject({ calibrationMethod: 'entropy' });
  expect(parseTaskConfig(JSON.stringify(taskConfig({ model: 'm' }))).variants).toBeUndefined();
  expect(() => taskConfig({ model: 'm', variantsDropMax: 1 })).toThrow(UsageError);
  expect(() => taskConfig({ model: 'm', calibrationMethod: 'mse' })).toThrow('--calibration-method go with --variants');
  const unknown = taskConfig({ model: 'm', variants: ['int3'] });
  expect(() => parseTaskConfig(JSON.stringify(unknown))).toThrow(/variants.forms must list some of int8-dynamic/);
});

test('options of a strategy are passed on, and the coordinator knows which there are', () => {
  const config = taskConfig({ model: 'm', strategy: 'fedAdam', strategyOption: { beta1: 0.5, tau: 0.01 } });
  expect(config['strategy']).toEqual({ name: 'fedAdam', beta1: 0.5, tau: 0.01 });
  expect(parseTaskConfig(JSON.stringify(config)).strategy).toEqual({ name: 'fedAdam', beta1: 0.5, tau: 0.01 });
  const wrong = taskConfig({ model: 'm', strategy: 'fedAdam', strategyOption: { gamma: 1 } });
  expect(() => parseTaskConfig(JSON.stringify(wrong))).toThrow(/fedAdam has no option "gamma": it has /);
});

test('gates of a task: how long a step may be, and who measures what a round made', () => {
  const config = taskConfig({
    model: 'm',
    gateNorm: 5,
    gateMetric: 'accuracy',
    gateMargin: 0.01,
    evaluator: ['judge'],
  });
  expect(parseTaskConfig(JSON.stringify(config))).toMatchObject({
    evaluators: ['judge'],
    gates: {
      norm: { factor: 5, rounds: 10 },
      metric: { name: 'accuracy', margin: 0.01, cohort: { min: 1, max: 100 }, evaluateMs: 60_000 },
    },
  });
  const inFile = { gates: { metric: { name: 'accuracy', cohort: { min: 3 } } } };
  const merged = parseTaskConfig(
    JSON.stringify(taskConfig({ model: 'm', metrics: ['accuracy'], gateMax: 7, gateMs: 500 }, inFile)),
  );
  expect(merged.gates?.metric).toMatchObject({ cohort: { min: 3, max: 7 }, evaluateMs: 500 });
  expect(() => taskConfig({ model: 'm', gateMargin: 0.1 })).toThrow(/go with --gate-metric/);
  expect(() => taskConfig({ model: 'm', gateNormRounds: 5 })).toThrow(/goes with --gate-norm/);
});

test('tasks that measure take no flags of training, and the other way round', () => {
  const evaluate = taskConfig({ kind: 'evaluate', model: 'm', metrics: ['accuracy'], holdOut: 0.5, cohortMin: 3 });
  expect(parseConfig(JSON.stringify(evaluate))).toMatchObject({
    kind: 'evaluate',
    evaluation: { loss: 'cross-entropy', metrics: ['accuracy'], holdOut: 0.5 },
    cohort: { min: 3, max: 100 },
  });
  const statistics = taskConfig({ kind: 'statistics', model: 'm', features: 'all', precisionBits: 5, range: '-8..8' });
  expect(parseConfig(JSON.stringify(statistics))).toMatchObject({
    kind: 'statistics',
    statistics: { features: 'all', precisionBits: 5, low: -8, high: 8 },
  });
  const wrong: [TaskFlags, string][] = [
    [{ kind: 'evaluate', epochs: 2 }, '--epochs is for tasks that train, and --kind is evaluate'],
    [{ kind: 'evaluate', classes: 10 }, '--classes goes with --kind statistics'],
    [{ kind: 'statistics', gateMs: 9 }, '--gate-ms is for tasks that train, and --kind is statistics'],
    [{ kind: 'statistics', metrics: ['accuracy'] }, '--metrics says nothing where agents only count'],
    [{ kind: 'statistics', range: '1-2' }, '--range 1-2: give two powers of two, such as -16..16'],
    [{ precisionBits: 4 }, '--precision-bits goes with --kind statistics'],
  ];
  for (const [flags, message] of wrong) expect(() => taskConfig({ model: 'm', ...flags })).toThrow(message);
  expect(() => taskConfig({ kind: 'statistics' })).toThrow('say which model the task measures');
  expect(() => taskConfig({ model: 'm' }, { kind: 7 })).toThrow('kind in the file must be train');
});

test('a missing model and a cohort upside down are wrong usage', () => {
  expect(() => taskConfig({})).toThrow(UsageError);
  expect(() => taskConfig({ model: 'm', cohortMin: 3, cohortMax: 2 })).toThrow(
    '--cohort-min 3 is more than --cohort-max 2',
  );
});

test('a teacher goes into the configuration with how its answers are learnt', () => {
  const taught = taskConfig({ model: 'm', distillFrom: { name: 'big', version: 3 }, temperature: 4 });
  expect(taught).toMatchObject({ teacher: { model: 'big', version: 3 }, plan: { distillation: { temperature: 4 } } });
  const config = parseTaskConfig(JSON.stringify(taught));
  expect(config.plan.distillation).toEqual({ temperature: 4, alpha: 0.5 });
  expect(() => taskConfig({ model: 'm', alpha: 0.5 })).toThrow('--temperature and --alpha go with --distill-from');
  // A file may name the teacher.
  expect(taskConfig({ model: 'm', alpha: 0.2 }, { teacher: { model: 'big' } })).toMatchObject({
    plan: { distillation: { alpha: 0.2 } },
  });
});

test.each<[object, object, string]>([
  [{ model: 'big' }, {}, 'plan.distillation is missing'],
  [{ model: 'a b' }, { distillation: {} }, 'teacher.model must be the name of a model'],
  [{ model: 'big', version: -1 }, { distillation: {} }, 'teacher.version must be a whole number from 0'],
  [{ model: 'big', weight: 1 }, { distillation: {} }, 'teacher.weight is not known: the keys are model, version'],
])('a teacher %j with a plan of %j is refused', (teacher, plan, words) => {
  const config = taskConfig({ model: 'm' }, { teacher, plan });
  expect(() => parseTaskConfig(JSON.stringify(config))).toThrow(words);
});

test('a distillation without a teacher is refused', () => {
  const config = taskConfig({ model: 'm' }, { plan: { distillation: {} } });
  expect(() => parseTaskConfig(JSON.stringify(config))).toThrow('teacher is missing: the plan has a distillation');
});
