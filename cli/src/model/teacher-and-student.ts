/** What a student costs and knows beside its teacher. */
import { costOf, splitModel, type ModelProto } from '@commonweight/core';
import type { Dataset } from '@commonweight/edge-agent';
import { bytes, percent } from '../output/format.ts';
import { latenciesOf } from './compare-models.ts';
import { ModelRunner } from './run-model.ts';
import { readSamples } from './samples.ts';

export interface Measured {
  parameters: number;
  /** NaN where the cost of an operator is not known. */
  operations: number;
  accuracy: number;
  bytes: number;
  latencyMs: number;
}

/** A table's rows of both, and how they compare. */
export function rowsOf(teacher: Measured, student: Measured): string[][] {
  const speedup = teacher.latencyMs / student.latencyMs;
  const points = (student.accuracy - teacher.accuracy) * 100;
  const fewer = (key: 'parameters' | 'operations'): string[] => [
    key,
    count(teacher[key]),
    count(student[key]),
    Number.isNaN(teacher[key] / student[key]) ? '' : times(teacher[key] / student[key], 'fewer'),
  ];
  return [
    fewer('parameters'),
    ['size', bytes(teacher.bytes), bytes(student.bytes), times(teacher.bytes / student.bytes, 'smaller')],
    fewer('operations'),
    [
      'latency',
      ms(teacher.latencyMs),
      ms(student.latencyMs),
      times(speedup, speedup < 1 ? 'as fast: SLOWER' : 'faster'),
    ],
    [
      'accuracy',
      percent(teacher.accuracy),
      percent(student.accuracy),
      `${points >= 0 ? '+' : ''}${points.toFixed(2)} points`,
    ],
  ];
}

/** Milliseconds of one example, of either. */
export async function latenciesOfBoth(
  teacher: ModelProto,
  student: ModelProto,
  data: string,
): Promise<[number, number]> {
  const runner = new ModelRunner();
  try {
    const [one, others] = [await readSamples(teacher, data, 1), await readSamples(student, data, 1)];
    return await latenciesOf(runner, [teacher, student], one.one, others.one);
  } finally {
    await runner.close();
  }
}

export async function measured(
  model: ModelProto,
  held: Dataset,
  threads: number,
): Promise<Pick<Measured, 'parameters' | 'operations' | 'accuracy'>> {
  const { evaluate, Evaluator, openEngine } = await import('@commonweight/edge-agent');
  const { graph, weights } = splitModel(model);
  const engine = await openEngine('ort-cpu', { threads });
  const evaluator = new Evaluator(engine);
  const plan = { loss: 'cross-entropy' } as const;
  const { correct = 0, examples } = await evaluate(graph, weights, held, { plan, evaluator });
  await evaluator.release();
  await engine.release();
  const { parameters, operations = NaN } = costOf(model);
  return { parameters, operations, accuracy: correct / examples };
}

const times = (ratio: number, how: string): string => `${ratio.toFixed(2)}x ${how}`;
const ms = (value: number): string => `${value.toPrecision(3)} ms`;
const count = (value: number): string => (Number.isNaN(value) ? 'not known' : Math.round(value).toLocaleString('en'));
