import { parseTaskConfig } from '@commonweight/coordinator';
import { expect, test } from 'vitest';
import { UsageError } from '../output/failure.ts';
import { taskConfig } from './task-flags.ts';

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

test('forms of versions are asked for by name, and the margin is theirs', () => {
  const config = taskConfig({ model: 'm', variants: ['int8-dynamic', 'int8-blocks'], variantsDropMax: 1 });
  expect(parseTaskConfig(JSON.stringify(config)).variants).toEqual({
    forms: ['int8-dynamic', 'int8-blocks'],
    accuracyDropPointsMax: 1,
  });
  expect(parseTaskConfig(JSON.stringify(taskConfig({ model: 'm' }))).variants).toBeUndefined();
  expect(() => taskConfig({ model: 'm', variantsDropMax: 1 })).toThrow(UsageError);
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
  [{ model: 'big', weight: 1 }, { distillation: {} }, 'teacher.weight is not known; use model, version'],
])('a teacher %j with a plan of %j is refused', (teacher, plan, words) => {
  const config = taskConfig({ model: 'm' }, { teacher, plan });
  expect(() => parseTaskConfig(JSON.stringify(config))).toThrow(words);
});

test('a distillation without a teacher is refused', () => {
  const config = taskConfig({ model: 'm' }, { plan: { distillation: {} } });
  expect(() => parseTaskConfig(JSON.stringify(config))).toThrow('teacher is missing: the plan has a distillation');
});
